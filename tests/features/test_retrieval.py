"""Feature retrieval end to end: real Feast, sqlite registry and online store, ASOF offline store."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore

from features.definitions import store_config
from features.encoding import encode_profiles, encoded_width
from features.errors import ConfigError
from features.feature_store import materialise
from features.files import read_json, sha256_file
from features.journey_files import TRAINING_TABLE, part_file, part_files
from features.journeys import JourneyConfig, build_journeys
from features.reader import Logs, open_logs
from features.retrieval import retrieve_features, schema_hash
from features.sources import write_sources

NOW = datetime(2025, 1, 1, tzinfo=UTC)
START = datetime(2024, 3, 1, 12)
DAY = timedelta(days=1)
FILES = (part_file(TRAINING_TABLE, 0), "items.parquet", "schema.json")
Write = Callable[..., Path]


def retrieve(logs: Logs, workdir: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    build_journeys(logs, JourneyConfig(), workdir / "journeys")
    retrieve_features(logs, workdir / "journeys", workdir / "store", workdir / "data")
    parts = part_files(workdir / "data", TRAINING_TABLE)
    training = pd.concat([pq.read_table(part, partitioning=None).to_pandas() for part in parts])
    items = pq.read_table(workdir / "data" / "items.parquet", partitioning=None).to_pandas()
    return training, items, read_json(workdir / "data" / "schema.json")


def test_training_table_by_hand(tables: dict[str, pa.Table], write: Write, tmp_path: Path) -> None:
    """User 1: observed at 0.25 h (profile of −100 h) and 48 h (profile of 1 h); user 2 has no profile.

    Activity is known from the midnight after: nothing of user 1's first day at 0.25 h, both touches and the
    upload of that day at 48 h. User 2 is observed once, on the first day.
    """
    training, _, schema = retrieve(open_logs(write(tables), now=NOW), tmp_path)
    journeys = pq.read_table(tmp_path / "journeys" / "journeys").to_pandas()
    pd.testing.assert_frame_equal(training[list(journeys.columns)], journeys)
    features = training[["user_id", *(c for c in training if "__" in c)]].astype(object)
    expected = pd.DataFrame(
        {
            "user_id": [1, 1, 2],
            "profile__age": [30, 31, None],
            "profile__city": ["Oslo", "Rome", None],
            "profile__pro": [1, 0, None],
            "activity__touches_7d": [None, 2, None],
            "activity__touches_28d": [None, 2, None],
            "activity__uploads_7d": [None, 1, None],
            "activity__uploads_28d": [None, 1, None],
        }
    )
    pd.testing.assert_frame_equal(
        features.where(features.notna(), None), expected.astype(object).where(expected.notna(), None)
    )
    assert [(p["column"], p["kind"]) for p in schema["profile"]] == [
        ("profile__age", "numeric"),
        ("profile__city", "categorical"),
        ("profile__pro", "numeric"),
    ]
    encoded = encode_profiles(training, schema["profile"])
    assert encoded.shape == (3, encoded_width(schema["profile"]))
    assert np.isfinite(encoded).all()
    assert encoded[:, -1].tolist() == [0, 0, 1]


def test_items_by_hand(tables: dict[str, pa.Table], write: Write, tmp_path: Path) -> None:
    """The logs end 45 d after START at noon; the last day is not over, so its touch of item 12 is not known."""
    _, items, schema = retrieve(open_logs(write(tables), now=NOW), tmp_path)
    assert items["item_id"].tolist() == [10, 11, 12]
    assert items["author_id"].tolist() == [100, 100, 101]
    assert [list(e) for e in items["embedding"]] == [[1, 0], [0.5, 0.5], [0, 1]]
    assert items["author__catalogue_items"].tolist() == [2, 2, 1]
    assert items["author__exposures_7d"].tolist() == [0, 0, 0]
    assert items["item__has_embedding"].tolist() == [1, 1, 1]
    assert items["item__published_day"].tolist() == [19781, 19782, 19782]  # 2024-02-28, -29 since 1970-01-01
    expected = {
        "responses": ["watch_ratio", "liked"],
        "embedding_dim": 2,
        "has_upload_embeddings": True,
        "has_randomised": False,
        "clusters": [0, 1],
    }
    assert {name: schema[name] for name in expected} == expected


def test_without_users_and_items(tables: dict[str, pa.Table], write: Write, tmp_path: Path) -> None:
    bare = {name: tables[name] for name in ("touchpoints", "uploads")}
    bare["uploads"] = bare["uploads"].drop_columns(["embedding"])
    training, items, schema = retrieve(open_logs(write(bare), now=NOW), tmp_path)
    assert not [column for column in training if column.startswith("profile__")]
    assert (schema["profile"], schema["embedding_dim"], schema["has_upload_embeddings"]) == ([], 0, False)
    assert "embedding" not in items
    assert items[["item_id", "author_id", "cluster_id"]].to_numpy().tolist() == [
        [10, 100, 0],
        [11, 100, 0],
        [12, 101, 1],
    ]
    assert items["author__catalogue_items"].tolist() == [2, 2, 1]


def activity(touches: pd.DataFrame, uploads: pd.DataFrame, user: int, moment: pd.Timestamp) -> list[int]:
    """Touches and uploads of the 7 and 28 whole days that ended before `moment`."""
    midnight = moment.normalize()
    counts = []
    for events in (touches, uploads):
        mine = events[(events["user_id"] == user) & (events["ts"] < midnight)]
        counts += [int((mine["ts"] >= midnight - days * DAY).sum()) for days in (7, 28)]
    return counts


def random_logs(seed: int) -> dict[str, pa.Table]:
    rng = np.random.default_rng(seed)
    n = 150
    seconds = rng.integers(0, 70 * 86400, size=(2, n))
    users, items = rng.integers(0, 6, size=(2, n)), rng.integers(0, 9, size=n)
    times = [pa.array([START + timedelta(seconds=int(s)) for s in row], pa.timestamp("us")) for row in seconds]
    return {
        "touchpoints": pa.table(
            {
                "user_id": users[0],
                "item_id": items,
                "author_id": items // 3,
                "cluster_id": (items % 2).astype("int32"),
                "ts": times[0],
            }
        ),
        "uploads": pa.table({"user_id": users[1], "upload_id": np.arange(n), "ts": times[1]}).slice(0, 30),
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_activity_agrees_with_counting(seed: int, write: Write, tmp_path: Path) -> None:
    tables = random_logs(seed)
    training, _, _ = retrieve(open_logs(write(tables), now=NOW), tmp_path)
    frames = [tables[name].to_pandas() for name in ("touchpoints", "uploads")]
    names = [f"activity__{what}_{days}d" for what in ("touches", "uploads") for days in (7, 28)]
    got = training[names].fillna(0).astype(int).to_numpy().tolist()
    expected = [activity(*frames, row.user_id, row.t_obs) for row in training.itertuples()]
    assert got == expected
    assert np.sum(expected) > 100


def test_features_do_not_know_what_comes_after_t_obs(write: Write, tmp_path: Path) -> None:
    """Shift every event after a moment by 3 h: features of journeys up to it are the same."""
    tables = random_logs(3)
    moment = START + 40 * DAY
    shifted = {}
    for name, table in tables.items():
        frame = table.to_pandas()
        frame.loc[frame["ts"] > moment, "ts"] += timedelta(hours=3)
        shifted[name] = pa.Table.from_pandas(frame, preserve_index=False).cast(table.schema)
    known = []
    for name, content in (("before", tables), ("after", shifted)):
        training, _, _ = retrieve(open_logs(write(content, name), now=NOW), tmp_path / f"work-{name}")
        training = training[training["t_obs"] <= moment].drop(
            columns=["journey_id", "offset", "label", "label_ts", "upload_id"]
        )
        known.append(training.reset_index(drop=True))
    assert len(known[0]) > 20
    pd.testing.assert_frame_equal(*known)


def test_a_second_run_changes_nothing(
    tables: dict[str, pa.Table], write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = open_logs(write(tables), now=NOW)
    retrieve(logs, tmp_path)
    first = [sha256_file(tmp_path / "data" / name) for name in FILES]
    with caplog.at_level(logging.INFO, logger="features"):
        retrieve(logs, tmp_path)
    assert first == [sha256_file(tmp_path / "data" / name) for name in FILES]
    assert "feature store: 0 changes applied" in caplog.text
    assert caplog.text.count("is up to date") == 3, "journeys, sources and the tables"


def test_the_registry_follows_the_logs(tables: dict[str, pa.Table], write: Write, tmp_path: Path) -> None:
    """Profiles change a column, then vanish: no stale view stays behind."""
    retrieve(open_logs(write(tables, "all"), now=NOW), tmp_path)
    tables["users"] = tables["users"].drop_columns(["city"])
    training, _, _ = retrieve(open_logs(write(tables, "fewer"), now=NOW), tmp_path)
    assert [c for c in training if c.startswith("profile__")] == ["profile__age", "profile__pro"]
    del tables["users"]
    retrieve(open_logs(write(tables, "none"), now=NOW), tmp_path)
    store = FeatureStore(config=store_config(tmp_path / "store"))
    assert sorted(view.name for view in store.list_feature_views()) == ["activity", "author", "item"]
    assert materialise(tmp_path / "store") == []


def test_profiles_are_served_online(tables: dict[str, pa.Table], write: Write, tmp_path: Path) -> None:
    retrieve(open_logs(write(tables), now=NOW), tmp_path)
    assert materialise(tmp_path / "store", until=NOW) == ["profile"]
    store = FeatureStore(config=store_config(tmp_path / "store"))
    served = store.get_online_features(
        features=["profile:age", "profile:city"], entity_rows=[{"user_id": 1}, {"user_id": 2}]
    ).to_dict()
    assert served == {"user_id": [1, 2], "age": [31, None], "city": ["Rome", None]}


def test_journeys_of_other_logs_are_refused(tables: dict[str, pa.Table], write: Write, tmp_path: Path) -> None:
    build_journeys(open_logs(write(tables, "a"), now=NOW), JourneyConfig(), tmp_path / "journeys")
    other = open_logs(write({**tables, "users": tables["users"].slice(0, 1)}, "b"), now=NOW)
    with pytest.raises(ConfigError, match="build the journeys again"):
        retrieve_features(other, tmp_path / "journeys", tmp_path / "store", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_failed_sources_leave_the_old_ones(tables: dict[str, pa.Table], write: Write, tmp_path: Path) -> None:
    logs = open_logs(write(tables), now=NOW)
    build_journeys(logs, JourneyConfig(), tmp_path / "journeys")
    write_sources(logs, tmp_path / "journeys", tmp_path / "sources", "one")
    before = {file.name: sha256_file(file) for file in (tmp_path / "sources").iterdir()}
    (logs.root / "users" / "part-0.parquet").write_bytes(b"gone")
    with pytest.raises(Exception, match="part-0"):
        write_sources(logs, tmp_path / "journeys", tmp_path / "sources", "another")
    assert {file.name: sha256_file(file) for file in (tmp_path / "sources").iterdir()} == before


SCHEMA: dict[str, Any] = {
    "responses": ["liked"],
    "controls": ["n_control"],
    "embedding_dim": 2,
    "clusters": [1],
    "profile": [{"column": "a", "kind": "categorical", "categories": ["x"]}],
}


@pytest.mark.parametrize(
    ("change", "comparable"),
    [
        ({"clusters": [1, 2]}, True),
        ({"feature_schema_hash": "x"}, True),
        ({"profile": [{"column": "a", "kind": "categorical", "categories": ["x", "y"]}]}, True),
        ({"profile": [{"column": "b", "kind": "categorical", "categories": ["x"]}]}, False),
        ({"profile": [{"column": "a", "kind": "numeric", "median": 1.0, "mean": 1.0, "std": 1.0}]}, False),
        ({"responses": []}, False),
        ({"controls": ["n_control", "n_days_covered"]}, False),
        ({"embedding_dim": 3}, False),
    ],
)
def test_schema_hash_covers_what_makes_models_comparable(change: dict[str, Any], comparable: bool) -> None:
    assert (schema_hash(SCHEMA) == schema_hash({**SCHEMA, **change})) == comparable


@pytest.mark.parametrize("name", ["dt=2024-05-01", "cluster_id=3", "user_id=7", "run[1]"])
def test_the_name_of_a_folder_is_no_data(name: str, tables: dict[str, pa.Table], write: Write, tmp_path: Path) -> None:
    """Nor a pattern."""
    logs = open_logs(write({table: tables[table] for table in ("touchpoints", "uploads")}), now=NOW)
    (training, items, schema), here = (retrieve(logs, tmp_path / folder) for folder in (name, "plain"))
    pd.testing.assert_frame_equal(training, here[0])
    pd.testing.assert_frame_equal(items, here[1])
    assert schema == here[2]


@pytest.mark.slow
@pytest.mark.skipif("ALM_MTA_CRITEO_LOGS" not in os.environ, reason="needs the Criteo logs (ALM_MTA_CRITEO_LOGS)")
def test_real_journeys_without_optional_parts(tmp_path: Path) -> None:
    """644k real touches: more than one shard of the default size."""
    training, items, schema = retrieve(open_logs(os.environ["ALM_MTA_CRITEO_LOGS"]), tmp_path)
    assert len(part_files(tmp_path / "data", TRAINING_TABLE)) == 2
    assert len(training) == 468_905
    assert len(items) == 10
    assert schema["embedding_dim"] == 0
