"""The training table is the same however it is cut, whoever retrieves it, and wherever that was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from killing import contents, kill_ten_times, unfinished

from features import training_table as table_module
from features.asof_join import ViewJoin
from features.duck_jobs import _key_ranges, _near_entities
from features.journey_files import TRAINING_TABLE, part_files
from features.journeys import JourneyConfig, build_journeys
from features.reader import Logs, open_logs
from features.retrieval import retrieve_features
from features.shards import ShardConfig
from validation.worlds import WORLDS, simulate

CUT = ShardConfig(touches=2000)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    """Those of 300 users, with profiles, items and embeddings."""
    folder = tmp_path_factory.mktemp("world") / "logs"
    simulate(WORLDS["logit"], 300, 1, folder)
    return open_logs(folder)


@pytest.fixture(scope="module")
def journeys(logs: Logs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In at least five parts."""
    folder = tmp_path_factory.mktemp("cut") / "journeys"
    build_journeys(logs, JourneyConfig(), folder, shards=CUT)
    assert len(part_files(folder, "journeys")) >= 5
    return folder


@pytest.fixture(scope="module")
def expected(logs: Logs, journeys: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """The files of a retrieval that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    retrieve_features(logs, journeys, folder / "store", folder / "data")
    assert not unfinished(folder), "what was kept for a kill is gone"
    return contents(folder / "data")


def test_parts_are_the_whole_table(logs: Logs, journeys: Path, expected: dict[Path, bytes], tmp_path: Path) -> None:
    build_journeys(logs, JourneyConfig(), tmp_path / "journeys")
    retrieve_features(logs, tmp_path / "journeys", tmp_path / "store", tmp_path / "data")
    (whole,) = part_files(tmp_path / "data", TRAINING_TABLE)
    parts = [pq.read_table(pa.BufferReader(expected[name])) for name in sorted(expected) if name.parent.name]
    assert [len(part) for part in parts] == [pq.read_metadata(f).num_rows for f in part_files(journeys, "journeys")]
    together = pa.concat_tables(parts, promote_options="default")  # what is never null differs between files
    assert together.cast(pq.read_schema(whole)) == pq.read_table(whole)
    for name in ("items.parquet", "schema.json"):
        assert expected[Path(name)] == (tmp_path / "data" / name).read_bytes()


def test_processes_retrieve_the_same(logs: Logs, journeys: Path, expected: dict[Path, bytes], tmp_path: Path) -> None:
    retrieve_features(logs, journeys, tmp_path / "store", tmp_path / "data", shards=ShardConfig(jobs=2))
    assert contents(tmp_path / "data") == expected


@pytest.mark.slow
def test_a_ray_cluster_retrieves_the_same(
    logs: Logs, journeys: Path, expected: dict[Path, bytes], tmp_path: Path
) -> None:
    on_ray = ShardConfig(ray_address="local")
    retrieve_features(logs, journeys, tmp_path / "store", tmp_path / "data", shards=on_ray)
    assert contents(tmp_path / "data") == expected


def test_a_retrieval_that_failed_goes_on_with_the_missing_parts(
    logs: Logs, journeys: Path, expected: dict[Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    original = table_module._build_part

    def failing(retrieval: Any, number: int) -> None:
        if number == 3 and 3 not in made:
            made.append(3)
            raise OSError("disk full")
        made.append(number)
        original(retrieval, number)

    def retrieve() -> None:
        retrieve_features(logs, journeys, tmp_path / "store", tmp_path / "data", work=tmp_path / "work")

    monkeypatch.setattr(table_module, "_build_part", failing)
    with pytest.raises(OSError, match="disk full"):
        retrieve()
    assert not (tmp_path / "data").exists()
    (torn,) = (tmp_path / "work").glob("*/00001/*.parquet")
    torn.write_bytes(torn.read_bytes()[:-1])
    retrieve()
    assert made == [0, 1, 2, 3, 1, *range(3, len(part_files(journeys, "journeys")))]
    assert contents(tmp_path / "data") == expected
    retrieve()
    assert len(made) == len(part_files(journeys, "journeys")) + 2, "a finished one is not retrieved again"
    part_files(tmp_path / "data", TRAINING_TABLE)[0].unlink()
    retrieve()
    assert contents(tmp_path / "data") == expected, "one that lacks a part is"


KILLED = """
import sys
from pathlib import Path
from features.reader import open_logs
from features.retrieval import retrieve_features
logs, (journeys, folder) = open_logs(sys.argv[1]), map(Path, sys.argv[2:])
print("begins", flush=True)
retrieve_features(logs, journeys, folder / "store", folder / "data")
"""


@pytest.mark.slow
def test_retrievals_killed_at_random_moments_end_with_the_same_bytes(
    logs: Logs, journeys: Path, expected: dict[Path, bytes], tmp_path: Path
) -> None:
    store, out = tmp_path / "store", tmp_path / "data"
    kill_ten_times(KILLED, [logs.root, journeys, tmp_path], out, expected, within_s=1.5, beside=[store])
    retrieve_features(logs, journeys, tmp_path / "store", tmp_path / "data")
    assert contents(tmp_path / "data") == expected
    assert not unfinished(tmp_path)


@pytest.mark.parametrize(
    ("keys", "sources"),
    [("[2, 3, NULL]", [2, 3]), ("[NULL]::INT[]", []), ("[]::INT[]", []), ("['2', '3']", [0, 1, 2, 3, 4, None])],
)
def test_only_keys_near_the_entities_are_read(keys: str, sources: list[int | None], tmp_path: Path) -> None:
    """Integers only: how others are ordered need not be how they compare."""
    file = tmp_path / "source.parquet"
    view = ViewJoin(files=str(file), keys={"Key": "k"}, features={}, timestamp="t", created=None, ttl=None)
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT unnest([0, 1, 2, 3, 4, NULL]) AS k) TO '{file}'")
        connection.execute(f"CREATE VIEW entity AS SELECT unnest({keys}) AS key")
        found = [key for (key,) in _near_entities(connection, view, _key_ranges(connection, [view])).fetchall()]
    assert found == sources
