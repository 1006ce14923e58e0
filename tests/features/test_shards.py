"""A build is the same however it is cut, whoever builds it, and wherever it was killed."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from killing import contents, kill_ten_times, unfinished

from features import journeys as journeys_module
from features import shards as cutting
from features.errors import ConfigError
from features.files import read_json
from features.journey_files import TABLES, part_file, part_files, positioned_touches, read_parts
from features.journeys import JourneyConfig, build_journeys
from features.reader import Logs, open_logs
from features.shards import ShardConfig, cut
from features.workers import over

NOW = datetime(2025, 1, 1, tzinfo=UTC)
START = datetime(2024, 3, 1)
Write = Callable[..., Path]


@pytest.fixture
def logs(write: Write) -> Logs:
    """About 4,000 touches of 60 users over 50 days; user 7 has half of them; user 3 uploads and touches nothing."""
    rng = np.random.default_rng(0)
    user = np.where(rng.random(4000) < 0.5, 7, rng.integers(-20, 60, 4000))
    user = np.where(user == 3, 4, user)
    touches = pd.DataFrame(
        {"user_id": user, "item_id": rng.integers(0, 50, 4000), "minute": rng.integers(0, 72000, 4000)}
    )
    touches = touches.drop_duplicates()
    uploader, minute = rng.integers(-20, 60, 300), rng.integers(0, 72000, 300)
    tables = {
        "touchpoints": {
            "user_id": touches["user_id"], "item_id": touches["item_id"], "author_id": touches["item_id"] // 2,
            "cluster_id": (touches["item_id"] % 5).astype("int32"), "ts": moments(touches["minute"]),
            "liked": rng.random(len(touches)) < 0.3,
        },
        "uploads": {"user_id": np.append(uploader, 3), "upload_id": np.arange(301), "ts": moments([*minute, 5])},
    }  # fmt: skip
    return open_logs(write({name: pa.table(columns) for name, columns in tables.items()}), now=NOW)


def moments(minutes: Any) -> pa.Array:
    return pa.array([START + timedelta(minutes=int(minute)) for minute in minutes], pa.timestamp("us"))


def read(out: Path) -> dict[str, pa.Table]:
    """The tables, without what their files say of nulls: it comes from statistics, a file each."""
    tables = {name: pq.read_table(out / name) for name in TABLES}
    return {
        name: table.cast(pa.schema([field.with_nullable(True) for field in table.schema]))
        for name, table in tables.items()
    }


def whole(logs: Logs, folder: Path) -> dict[str, pa.Table]:
    build_journeys(logs, JourneyConfig(), folder / "whole")
    return read(folder / "whole")


@pytest.mark.parametrize("touches", [150, 2500])
def test_a_build_is_the_same_however_it_is_cut(logs: Logs, tmp_path: Path, touches: int) -> None:
    build_journeys(logs, JourneyConfig(), tmp_path / "cut", shards=ShardConfig(touches=touches))
    assert read(tmp_path / "cut") == whole(logs, tmp_path)
    one, many = (read_json(tmp_path / name / "manifest.json") for name in ("whole", "cut"))
    assert len(many.pop("files")) > len(one.pop("files"))
    assert many == one
    assert not unfinished(tmp_path), "what was kept for a kill is gone"


def test_shards_hold_about_as_many_touches(logs: Logs, tmp_path: Path) -> None:
    """Every user in one shard; at most the wanted touches and one user's more."""
    shards = cut(logs, ShardConfig(touches=300), tmp_path)
    build_journeys(logs, JourneyConfig(), tmp_path / "cut", shards=ShardConfig(touches=300))
    parts = [pq.read_table(file)["user_id"].to_numpy() for file in part_files(tmp_path / "cut", "touches")]
    assert len(parts) == len(shards) > 5
    assert [None, *(part.min() for part in parts[1:])] == [shard.first_user for shard in shards]
    for before, after in itertools.pairwise(parts):
        assert before.max() < after.min()
    most = max(np.unique(part, return_counts=True)[1].max() for part in parts)
    assert most > 1000
    assert all(len(part) < 300 + np.unique(part, return_counts=True)[1].max() for part in parts)


def test_a_sample_of_users_says_where_large_shards_end(
    logs: Logs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of some 60 users, of whom one has half of all touches, or none."""
    shards = ShardConfig(touches=600)
    exact = cut(logs, shards, tmp_path)
    monkeypatch.setattr(cutting, "SAMPLED", 100)
    assert cut(logs, shards, tmp_path) == exact, "so few users all count"
    monkeypatch.setattr(cutting, "SAMPLED_USERS", 0)
    sampled = cut(logs, shards, tmp_path)
    assert len(sampled) > 1
    assert sampled != exact
    assert sampled == cut(logs, shards, tmp_path)
    build_journeys(logs, JourneyConfig(), tmp_path / "cut", shards=shards)
    assert len(part_files(tmp_path / "cut", "touches")) == len(sampled)
    assert read(tmp_path / "cut") == whole(logs, tmp_path)


@pytest.mark.parametrize("bounds", [0, 1, 64, 65, 300])
def test_few_bounds_and_many_give_the_same_shards(bounds: int) -> None:
    rng = np.random.default_rng(bounds)
    first_users = np.sort(rng.choice(1000, bounds, replace=False))
    user = rng.integers(-5, 1010, 500)
    expected = np.searchsorted(first_users, user, side="right")
    np.testing.assert_array_equal(cutting._shard_of(user, first_users), expected)


def test_positions_count_through_the_parts(logs: Logs, tmp_path: Path) -> None:
    import duckdb

    build_journeys(logs, JourneyConfig(), tmp_path / "cut", shards=ShardConfig(touches=300))
    with duckdb.connect() as connection:
        positioned_touches(connection, tmp_path / "cut").create_view("touches")
        found = connection.sql("SELECT item_id FROM touches ORDER BY position").fetchnumpy()["item_id"]
        bounds = connection.sql("SELECT min(position), max(position), count(*) FROM touches").fetchall()
    np.testing.assert_array_equal(found, read(tmp_path / "cut")["touches"]["item_id"].to_numpy())
    rows = logs.rows["touchpoints"]
    assert bounds == [(0, rows - 1, rows)]


def test_more_than_a_hundred_thousand_parts_stay_in_order(tmp_path: Path) -> None:
    numbers = [3, 20, 99_999, 100_000, 250_000]
    for number in reversed(numbers):
        file = tmp_path / part_file("judge", number)
        file.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"number": [number]}), file)
    assert read_parts(tmp_path, "judge", ["number"])["number"].to_pylist() == numbers


@pytest.mark.parametrize(("apart", "encoding"), [(1, "DELTA_BINARY_PACKED"), (2**40, "RLE_DICTIONARY")])
def test_ids_that_lie_close_are_stored_as_differences(write: Write, tmp_path: Path, apart: int, encoding: str) -> None:
    """Either way they come back as they were."""
    ids = np.arange(50) * apart
    touches = {
        "user_id": np.zeros(50, int), "item_id": ids, "author_id": ids[::-1], "ts": moments(range(50)),
        "cluster_id": np.zeros(50, "int32"),
    }  # fmt: skip
    uploads = {"user_id": [0], "upload_id": [0], "ts": moments([60 * 24 * 40])}
    logs = open_logs(write({"touchpoints": pa.table(touches), "uploads": pa.table(uploads)}), now=NOW)
    build_journeys(logs, JourneyConfig(), tmp_path / "out")
    (file,) = part_files(tmp_path / "out", "touches")
    group = pq.ParquetFile(file).metadata.row_group(0)
    columns = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}
    for name, expected in (("item_id", ids), ("author_id", ids[::-1])):
        assert encoding in columns[name].encodings
        np.testing.assert_array_equal(pq.read_table(file)[name], expected)


def test_processes_build_the_same(logs: Logs, tmp_path: Path) -> None:
    build_journeys(logs, JourneyConfig(), tmp_path / "cut", shards=ShardConfig(touches=1500, jobs=2))
    assert read(tmp_path / "cut") == whole(logs, tmp_path)


def test_a_finished_build_is_not_repeated(logs: Logs, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is it believed when a file was altered, or the configuration is another."""

    def build(config: JourneyConfig) -> str:
        caplog.clear()
        with caplog.at_level("INFO"):
            build_journeys(logs, config, tmp_path / "out", shards=ShardConfig(touches=1500))
        return caplog.text

    assert "up to date" not in build(JourneyConfig())
    assert "up to date" in build(JourneyConfig())
    expected = read(tmp_path / "out")
    pq.write_table(expected["judge"].slice(1), tmp_path / "out" / part_file("judge", 0))
    assert "up to date" not in build(JourneyConfig())
    assert read(tmp_path / "out") == expected
    assert "up to date" not in build(JourneyConfig(max_touches=3))
    assert read(tmp_path / "out") != expected


def test_a_build_that_failed_goes_on_with_the_missing_shards(
    logs: Logs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    original = journeys_module._build_shard

    def failing(build: Any, task: Any) -> None:
        shard, _ = task
        if shard.number == 3 and not built.count(3):
            built.append(3)
            raise OSError("disk full")
        built.append(shard.number)
        original(build, task)

    monkeypatch.setattr(journeys_module, "_build_shard", failing)
    shards = ShardConfig(touches=600)
    with pytest.raises(OSError, match="disk full"):
        build_journeys(logs, JourneyConfig(), tmp_path / "out", shards=shards, work=tmp_path / "work")
    assert not (tmp_path / "out").exists()
    assert built == [0, 1, 2, 3]
    (torn,) = (tmp_path / "work").glob("*/00001/journeys.parquet")
    torn.write_bytes(torn.read_bytes()[:-1])
    build_journeys(logs, JourneyConfig(), tmp_path / "out", shards=shards, work=tmp_path / "work")
    assert built[4:] == [1, *range(3, len(cut(logs, shards, tmp_path)))]
    assert read(tmp_path / "out") == whole(logs, tmp_path)


@pytest.mark.parametrize("removed", [True, False])
def test_a_build_stopped_while_it_cleans_up_leaves_no_half_of_its_shards_to_the_next(
    removed: bool, logs: Logs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor anything else, whether its output was removed since or is up to date."""
    out, shards = tmp_path / "out", ShardConfig(touches=600)
    remove = shutil.rmtree

    def stopped(folder: Path, **settings: Any) -> None:
        if (exchanged := Path(folder, "exchanged")).exists():
            remove(exchanged / "touchpoints")
            remove(Path(folder, "00003"))
            raise KeyboardInterrupt
        remove(folder, **settings)

    monkeypatch.setattr(shutil, "rmtree", stopped)
    with pytest.raises(KeyboardInterrupt):
        build_journeys(logs, JourneyConfig(), out, shards=shards)
    expected = contents(out)
    monkeypatch.setattr(shutil, "rmtree", remove)
    assert unfinished(tmp_path)
    if removed:
        remove(out)
    build_journeys(logs, JourneyConfig(), out, shards=shards)
    assert contents(out) == expected
    assert not unfinished(tmp_path)


KILLED = """
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from features.journeys import JourneyConfig, build_journeys
from features.reader import open_logs
from features.shards import ShardConfig
logs = open_logs(sys.argv[1], now=datetime(2025, 1, 1, tzinfo=UTC))
print("begins", flush=True)
build_journeys(logs, JourneyConfig(), Path(sys.argv[2]), shards=ShardConfig(touches=100))
"""


@pytest.mark.slow
def test_builds_killed_at_random_moments_end_with_the_same_bytes(logs: Logs, tmp_path: Path) -> None:
    shards = ShardConfig(touches=100)
    build_journeys(logs, JourneyConfig(), tmp_path / "whole", shards=shards)
    expected = contents(tmp_path / "whole")
    kill_ten_times(KILLED, [logs.root, tmp_path / "out"], tmp_path / "out", expected, within_s=0.5)
    build_journeys(logs, JourneyConfig(), tmp_path / "out", shards=shards)
    assert contents(tmp_path / "out") == expected
    assert not unfinished(tmp_path)


def end_this_process(task: int) -> None:
    if task == 2:
        os._exit(1)


def test_a_worker_that_dies_is_told_of() -> None:
    from features.errors import AlmMtaError

    with pytest.raises(AlmMtaError, match=r"worker processes died.*fewer shards\.jobs"):
        over(end_this_process, [1, 2, 3], jobs=2)


@pytest.mark.parametrize(("values", "message"), [({"touches": 0}, "shards.touches"), ({"jobs": 0}, "shards.jobs")])
def test_settings_that_mean_nothing_are_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShardConfig(**values)  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_ray_nodes_build_the_same_though_one_dies(logs: Logs, tmp_path: Path, retrying_cluster: Any) -> None:
    """The node that is not the head is killed once a fifth of the shards are there."""
    cluster, node = retrying_cluster
    shards = ShardConfig(touches=60, ray_address=cluster.address)
    wanted = len(cut(logs, shards, tmp_path))
    seen: list[int] = []

    def kill() -> None:
        while len(list((tmp_path / "work").glob("*/0*/manifest.json"))) < wanted / 5:
            time.sleep(0.02)
        seen.append(len(list((tmp_path / "work").glob("*/0*/manifest.json"))))
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    build_journeys(logs, JourneyConfig(), tmp_path / "ray", shards=shards, work=tmp_path / "work")
    killer.join(60)
    assert seen[0] < wanted, "the node died before the build was over"
    build_journeys(logs, JourneyConfig(), tmp_path / "pool", shards=ShardConfig(touches=60, jobs=2))
    assert contents(tmp_path / "ray") == contents(tmp_path / "pool")
    assert read(tmp_path / "ray") == whole(logs, tmp_path)


@pytest.fixture
def retrying_cluster() -> Any:
    """A head and a node of one core each."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    assert sum(1 for known in ray.nodes() if known["Alive"]) == 2
    ray.shutdown()
    yield cluster, node
    ray.shutdown()
    cluster.shutdown()
