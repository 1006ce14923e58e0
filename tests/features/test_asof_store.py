"""The ASOF store: the edges of its semantics by hand (`test_asof_oracle.py` has the definition), persist and ranges."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from features.asof_join import RangeScan, ViewJoin
from features.asof_store import AsofOfflineStore, AsofOfflineStoreConfig
from features.definitions import store_config
from features.duck_jobs import AsofRetrievalJob, RangeJob
from features.errors import ConfigError

T0 = datetime(2024, 1, 1)
Row = dict[str, Any]


def at(day: int) -> datetime:
    return T0 + timedelta(days=day)


def write_source(folder: Path, name: str, rows: list[Row], zone: str | None = None) -> Path:
    """Rows of key, ts, created, value."""
    schema = pa.schema(
        [("k", pa.int64()), ("ts", pa.timestamp("us", zone)), ("created", pa.timestamp("us")), ("v", pa.int64())]
    )
    path = folder / f"{name}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def view(path: Path, *, output: str = "v", ttl: timedelta = timedelta(0), created: bool = True) -> ViewJoin:
    return ViewJoin(
        files=str(path),
        keys={"user": "k"},
        features={output: "v"},
        timestamp="ts",
        created="created" if created else None,
        ttl=ttl,
    )


def job(entity: pd.DataFrame | str, views: list[ViewJoin]) -> AsofRetrievalJob:
    return AsofRetrievalJob(AsofOfflineStoreConfig(threads=2).connect, entity, views, [], False, [])


def entities(*rows: tuple[int | None, datetime]) -> pd.DataFrame:
    users, times = zip(*rows, strict=True)
    return pd.DataFrame({"user": pd.array(users, dtype="Int64"), "event_timestamp": pd.to_datetime(list(times))})


def test_ttl_is_inclusive_and_zero_is_for_ever(tmp_path: Path) -> None:
    path = write_source(tmp_path, "a", [{"k": 1, "ts": T0, "created": T0, "v": 5}])
    moments = [at(2), at(2) + timedelta(microseconds=1), at(9999)]
    frame = entities(*((1, moment) for moment in moments))
    two_days = job(frame, [view(path, ttl=timedelta(days=2))]).to_arrow().sort_by("event_timestamp")
    for_ever = job(frame, [view(path, ttl=timedelta(0))]).to_arrow()
    assert two_days["v"].to_pylist() == [5, None, None]
    assert for_ever["v"].to_pylist() == [5, 5, 5]


def test_times_without_a_zone_are_utc(tmp_path: Path) -> None:
    """09:00 in Tokyo is 00:00 UTC: known at T0 and not a microsecond before."""
    row = {"k": 1, "ts": T0.replace(tzinfo=UTC), "created": T0, "v": 5}
    path = write_source(tmp_path, "a", [row], zone="Asia/Tokyo")
    before = T0 - timedelta(microseconds=1)
    got = job(entities((1, before), (1, T0)), [view(path)]).to_arrow().sort_by("event_timestamp")
    assert got["v"].to_pylist() == [None, 5]
    aware = entities((1, before), (1, T0))
    aware["event_timestamp"] = aware["event_timestamp"].dt.tz_localize("UTC").dt.tz_convert("America/New_York")
    assert job(aware, [view(path)]).to_arrow().sort_by("event_timestamp")["v"].to_pylist() == [None, 5]


def test_every_entity_row_once_even_twins_and_nulls(tmp_path: Path) -> None:
    path = write_source(tmp_path, "a", [{"k": 1, "ts": T0, "created": T0, "v": 5}])
    frame = entities((1, at(1)), (1, at(1)), (None, at(1)), (2, at(1)))
    got = job(frame, [view(path)]).to_arrow()
    assert sorted(map(str, got["v"].to_pylist())) == ["5", "5", "None", "None"]


def test_colliding_and_lacking_columns_are_named(tmp_path: Path) -> None:
    path = write_source(tmp_path, "a", [])
    with pytest.raises(ConfigError, match=r"\['v'\] would name two columns"):
        job(entities((1, T0)).assign(v=1), [view(path)]).to_arrow()
    with pytest.raises(ConfigError, match=r"\['v'\] would name two columns"):
        job(entities((1, T0)), [view(path), view(path)]).to_arrow()
    with pytest.raises(ConfigError, match=r"lacks \['user'\]"):
        job(entities((1, T0)).rename(columns={"user": "who"}), [view(path)]).to_arrow()


def test_names_that_differ_in_case_collide(tmp_path: Path) -> None:
    path = write_source(tmp_path, "a", [])
    with pytest.raises(ConfigError, match=r"\['V', 'v'\] would name two columns"):
        job(entities((1, T0)).assign(V=1), [view(path)]).to_arrow()


def test_what_was_created_later_is_hidden_to_the_microsecond(tmp_path: Path) -> None:
    """Created on day 2: seen by entities from then on, and by a store that stops then; not a microsecond earlier."""
    path = write_source(tmp_path, "a", [{"k": 1, "ts": T0, "created": at(2), "v": 5}])
    tick, frame = timedelta(microseconds=1), entities((1, at(2) - timedelta(microseconds=1)), (1, at(2)))

    def values(**limits: Any) -> list[Any]:
        limited = dataclasses.replace(view(path), **limits)
        return job(frame, [limited]).to_arrow().sort_by("event_timestamp")["v"].to_pylist()

    assert values() == [5, 5]
    assert values(hide_later_created=True) == [None, 5]
    assert values(created_until=at(2)) == [5, 5]
    assert values(created_until=at(2) - tick) == [None, None]


def test_persist_streams_sql_entities_and_spares_what_is_there(tmp_path: Path) -> None:
    path = write_source(tmp_path, "a", [{"k": 1, "ts": T0, "created": T0, "v": 5}])
    sql = "SELECT i AS row, 1::BIGINT AS user, TIMESTAMP '2024-01-02' AS event_timestamp FROM range(5000) r(i)"
    target = tmp_path / "out.parquet"
    storage = SavedDatasetFileStorage(path=str(target))
    retrieval = job(sql, [view(path)])
    retrieval.persist(storage)
    got = pq.read_table(target).sort_by("row")
    assert got["row"].to_pylist() == list(range(5000))
    assert set(got["v"].to_pylist()) == {5}
    with pytest.raises(ConfigError, match="pass allow_overwrite"):
        retrieval.persist(storage)
    target.write_text("stale")
    retrieval.persist(storage, allow_overwrite=True)
    assert pq.read_table(target).num_rows == 5000
    assert retrieval.metadata.keys == ["row", "user"]
    assert retrieval.metadata.min_event_timestamp == datetime(2024, 1, 2)


def test_feast_picks_the_store_from_its_config(tmp_path: Path) -> None:
    store = FeatureStore(config=store_config(tmp_path))
    assert isinstance(store.config.offline_store, AsofOfflineStoreConfig)
    assert isinstance(store._get_provider().offline_store, AsofOfflineStore)


def test_ranges_give_all_rows_or_the_latest_of_each_key(tmp_path: Path) -> None:
    rows = [
        {"k": 1, "ts": at(1), "created": at(1), "v": 1},
        {"k": 1, "ts": at(3), "created": at(5), "v": 3},
        {"k": 1, "ts": at(3), "created": at(4), "v": 2},
        {"k": 2, "ts": at(2), "created": at(2), "v": 4},
        {"k": 1, "ts": at(9), "created": at(9), "v": 9},
    ]
    files = str(write_source(tmp_path, "a", rows))

    def values(latest_only: bool, end: datetime) -> list[int]:
        scan = RangeScan(
            files=files, keys=("k",), columns=("v",), timestamp="ts", created="created", latest_only=latest_only
        )
        return sorted(RangeJob(AsofOfflineStoreConfig().connect, scan, at(1), end).to_arrow()["v"].to_pylist())

    assert values(False, at(3)) == [1, 2, 3, 4]
    assert values(True, at(3)) == [3, 4]
    assert values(True, at(3).replace(tzinfo=UTC)) == [3, 4]
    assert values(False, datetime.max) == [1, 2, 3, 4, 9]
