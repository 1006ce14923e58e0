from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_world import Prepared

from features.encoding import encode_profiles
from features.files import read_json, write_json
from model import feed_columns
from model.data import JourneyTable, load_journeys
from model.feed_columns import index_of


def tensors(table: JourneyTable) -> dict[str, torch.Tensor]:
    values = {field.name: getattr(table, field.name) for field in fields(table)}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


def equal(a: JourneyTable, b: JourneyTable) -> bool:
    left, right = tensors(a), tensors(b)
    return a.keys.equals(b.keys) and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name], equal_nan=True)
        for name in left
    )


def test_columns_are_what_pandas_reads(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups and batches that cut users in two, responses with nulls, an item without content, an unknown one."""
    shutil.copytree(prepared.journeys, tmp_path / "journeys")
    shutil.copytree(prepared.data, tmp_path / "data")
    touches = pq.read_table(prepared.journeys / "touches").to_pandas()
    touches["watch_ratio"] = touches["watch_ratio"].mask(touches.index % 5 == 0)
    touches["liked"] = touches["liked"].astype("boolean").mask(touches.index % 3 == 0)
    touches.loc[7, ["item_id", "cluster_id"]] = -1
    parts = tmp_path / "journeys" / "touches"
    for number, half in enumerate((touches[:5001], touches[5001:])):
        pq.write_table(pa.Table.from_pandas(half), parts / f"part-{number:05d}.parquet", row_group_size=999)
    items = pq.read_table(prepared.data / "items.parquet").to_pandas()
    items["embedding"] = [None if row % 4 == 0 else value for row, value in enumerate(items["embedding"])]
    pq.write_table(pa.Table.from_pandas(items), tmp_path / "data" / "items.parquet", row_group_size=100)
    monkeypatch.setattr(feed_columns, "ROWS", 101)

    table = load_journeys(tmp_path / "journeys", tmp_path / "data")

    schema, journeys = table.schema, pq.read_table(prepared.data / "training_table.parquet").to_pandas()
    np.testing.assert_array_equal(table.touch_ts_N, touches["ts"].astype("datetime64[us]").astype("int64"))
    places = {item: row for row, item in enumerate(items["item_id"])}
    assert table.touch_item_N.tolist() == [places.get(item, len(items)) for item in touches["item_id"]]
    clusters = {cluster: index for index, cluster in enumerate(schema["clusters"])}
    assert table.touch_cluster_N.tolist() == [clusters.get(c, len(clusters)) for c in touches["cluster_id"]]
    responses = touches[schema["responses"]].astype("Float32").to_numpy(np.float32, na_value=np.nan)
    np.testing.assert_array_equal(table.response_NR, responses)
    assert np.isnan(responses).any()
    nothing = np.zeros(schema["embedding_dim"], np.float32)
    content = [nothing if value is None else value for value in items["embedding"]]
    np.testing.assert_array_equal(table.content_ID, np.stack([*content, nothing]))
    assert table.catalogue.content_ID.base is not None, "the item table is held once"
    np.testing.assert_array_equal(table.control_JC, journeys[schema["controls"]].fillna(0).to_numpy(np.float32))
    np.testing.assert_array_equal(table.profile_JP, encode_profiles(journeys, schema["profile"]))
    pd.testing.assert_frame_equal(table.keys, journeys[list(table.keys)])
    first = touches.reset_index().groupby("user_id")["index"].first()
    np.testing.assert_array_equal(table.first_touch_J, first.loc[journeys["user_id"]])


def test_memory_maps_hold_the_same_and_are_written_once(prepared: Prepared, tmp_path: Path) -> None:
    """The second process reads neither touches nor items; what one writes to its tensors is its own."""
    shutil.copytree(prepared.journeys, tmp_path / "journeys")
    shutil.copytree(prepared.data, tmp_path / "data")
    places = {"journeys_dir": tmp_path / "journeys", "data_dir": tmp_path / "data"}
    in_memory = load_journeys(**places)
    first = load_journeys(**places, cache=tmp_path / "kept" / "feed")
    assert equal(in_memory, first)
    (tmp_path / "journeys" / "touches" / "part-00000.parquet").unlink()
    (tmp_path / "data" / "items.parquet").unlink()
    first.touch_ts_N.zero_()
    assert equal(in_memory, load_journeys(**places, cache=tmp_path / "kept" / "feed"))


def test_a_cache_is_whole_or_absent(prepared: Prepared, tmp_path: Path) -> None:
    shutil.copytree(prepared.journeys, tmp_path / "journeys")
    (tmp_path / "journeys" / "touches" / "part-00000.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(pa.ArrowInvalid):
        load_journeys(tmp_path / "journeys", prepared.data, cache=tmp_path / "feed")
    assert not (tmp_path / "feed").exists()
    assert equal(
        load_journeys(prepared.journeys, prepared.data, cache=tmp_path / "feed"),
        load_journeys(prepared.journeys, prepared.data),
    )


def test_logs_without_responses_and_content(prepared: Prepared, tmp_path: Path) -> None:
    shutil.copytree(prepared.data, tmp_path / "data")
    bare = {"responses": [], "embedding_dim": 0, "profile": []}
    write_json(tmp_path / "data" / "schema.json", read_json(prepared.data / "schema.json") | bare)
    for cache in (None, tmp_path / "feed"):
        table = load_journeys(prepared.journeys, tmp_path / "data", cache=cache)
        batch = table.batch(torch.tensor([0, 5]))
        assert batch.response_BLR.shape == (*batch.treatment.mask_BL.shape, 0)
        assert table.content_ID.shape == (len(table.catalogue.item_id_I) + 1, 1)
        assert not table.content_ID.any()
        assert table.profile_JP.shape == (len(table.keys), 1)


def test_index_of_knows_its_values_and_no_others() -> None:
    known = pd.Index([3, 5, 9])
    assert index_of(known, np.array([[9, 4], [3, 10]])).tolist() == [[2, 3], [0, 3]]
    assert index_of(pd.Index([], dtype=np.int64), np.array([1, 2])).tolist() == [0, 0]
