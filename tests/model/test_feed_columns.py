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
from model.feed_columns import Positions, floats, index_of, microseconds


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

    schema, journeys = table.schema, pq.read_table(prepared.data / "training_table").to_pandas()
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


LEAST, MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@pytest.mark.parametrize(
    "known",
    [[3, 5, 9], [9, 3, 5], [-4, -2], [10**15, 3, 7], [LEAST, LEAST + 2], [MOST - 1, MOST], [LEAST, MOST], [5], [],
     list(range(300))],
)  # fmt: skip
def test_positions_are_of_the_known_values_and_of_no_others(known: list[int]) -> None:
    """In a table of a narrow range and in the hash table of a wide one, with values at either end and beyond."""
    places = {value: place for place, value in enumerate(known)}
    asked = [*known, LEAST, LEAST + 1, -3, 0, 1, 4, 8, 10, 299, 300, 10**15 + 1, MOST - 2, MOST]
    expected = [places.get(value, len(known)) for value in asked]
    index = Positions(np.array(known, np.int64)).of(np.array(asked, np.int64))
    assert (index.tolist(), index.dtype) == (expected, np.int64)
    assert index_of(pd.Index(known, dtype=np.int64), np.array(asked, np.int64)).tolist() == expected


def test_positions_keep_shapes_and_take_narrow_integers() -> None:
    index = Positions(np.array([3, 5, 9])).of(np.array([[9, 4], [3, -(2**31)]], np.int32))
    assert index.tolist() == [[2, 3], [0, 3]]


@pytest.mark.parametrize("type_", [pa.bool_(), pa.float32(), pa.float64(), pa.int64()])
@pytest.mark.parametrize("begin", [0, 1, 8, 13])
def test_floats_of_a_slice_are_its_values_and_nan_for_null(type_: pa.DataType, begin: int) -> None:
    values = [None if row % 3 == 0 else row % 2 for row in range(40)]
    for given in (values, [row % 2 for row in range(40)]):
        column = pa.array(given, pa.int64()).cast(type_)[begin : begin + 17]
        expected = np.array([np.nan if value is None else value for value in given[begin : begin + 17]], np.float32)
        found = floats(column)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("type_", [pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("ns", "Europe/Berlin")])
def test_microseconds_are_utc_whatever_the_unit(type_: pa.DataType) -> None:
    assert microseconds(pa.array([0, 1_700_000_000_000_001], pa.timestamp("us", type_.tz)).cast(type_)).tolist() == [
        0, 1_700_000_000_000_001,
    ]  # fmt: skip


def test_a_part_without_touches_changes_nothing(prepared: Prepared, tmp_path: Path) -> None:
    shutil.copytree(prepared.journeys, tmp_path / "journeys")
    parts = tmp_path / "journeys" / "touches"
    pq.write_table(pq.read_table(parts / "part-00000.parquet")[:0], parts / "part-99999.parquet")
    assert equal(load_journeys(tmp_path / "journeys", prepared.data), load_journeys(prepared.journeys, prepared.data))
