"""Logs in an object store, against a real S3-compatible server on loopback."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import SECRET, s3_server
from s3fs import S3File, S3FileSystem
from small_world import Prepared

from features import storage
from features.duck import session
from features.errors import BadLogsError, ConfigError
from features.files import read_json
from features.journey_files import TABLES
from features.journeys import JourneyConfig, build_journeys
from features.reader import open_logs
from features.shards import ShardConfig
from features.storage import location

NOW = datetime(2025, 1, 1, tzinfo=UTC)
Write = Callable[..., Path]
Put = Callable[..., str]


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


@pytest.fixture
def put(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Put:
    """put(folder, name) copies a folder of logs into a bucket, in place of what was there, and returns its address."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    store = S3FileSystem(skip_instance_cache=True)

    def copy(folder: Path, name: str = "logs") -> str:
        store.makedirs("bucket", exist_ok=True)
        if store.exists(f"bucket/{name}"):
            store.rm(f"bucket/{name}", recursive=True)
        store.put(f"{folder}/", f"bucket/{name}/", recursive=True)
        return f"s3://bucket/{name}"

    return copy


def test_the_same_logs_here_and_there(
    put: Put, prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also in the shards' processes; what is known to the store only never shows in what is logged."""
    here, there = open_logs(prepared.logs), open_logs(put(prepared.logs))
    assert there.rows == here.rows
    assert there.columns == here.columns
    assert (there.earliest_ts, there.latest_ts) == (here.earliest_ts, here.latest_ts)
    build_journeys(here, JourneyConfig(), tmp_path / "here")
    with caplog.at_level(logging.DEBUG):
        build_journeys(
            there,
            JourneyConfig(),
            tmp_path / "there",
            shards=ShardConfig(touches=here.rows["touchpoints"] // 3, jobs=2),
        )
    for table in TABLES:
        left, right = (pq.read_table(tmp_path / side / table).to_pandas() for side in ("here", "there"))
        assert left.equals(right), table
    assert len(read_json(tmp_path / "there" / "manifest.json")["files"]) > 4
    assert SECRET not in caplog.text


def test_partitions_are_read_by_their_columns(
    put: Put, tables: dict[str, pa.Table], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hive folders count; a query for one column of a wide file fetches little of it."""
    touches = tables["touchpoints"].append_column("wide", pa.array([bytes(range(256)) * 40_000] * 5, pa.large_binary()))
    folder = write({name: table for name, table in tables.items() if name != "touchpoints"})
    day = folder / "touchpoints" / "dt=2024-03-01"
    day.mkdir(parents=True)
    pq.write_table(touches, day / "part-0.parquet", compression="none")
    logs = open_logs(put(folder), now=NOW)
    assert [str(file) for file in logs.files["touchpoints"]] == [
        "s3://bucket/logs/touchpoints/dt=2024-03-01/part-0.parquet"
    ]
    size = (day / "part-0.parquet").stat().st_size
    fetched: list[int] = []
    original = S3File._fetch_range

    def counted(file: S3File, start: int, end: int) -> bytes:
        fetched.append(end - start)
        return bytes(original(file, start, end))

    monkeypatch.setattr(S3File, "_fetch_range", counted)
    with session() as connection:
        logs.register(connection)
        assert connection.execute("SELECT sum(item_id) FROM touchpoints").fetchall() == [(55,)]
    assert 0 < sum(fetched) < size / 5


def test_the_fingerprint_follows_the_content(put: Put, tables: dict[str, pa.Table], write: Write) -> None:
    folder = write(tables)
    first = open_logs(put(folder, "a"), now=NOW).fingerprint
    assert open_logs(put(folder, "b"), now=NOW).fingerprint == first
    pq.write_table(tables["uploads"].slice(0, 1), folder / "uploads" / "part-0.parquet")
    assert open_logs(put(folder, "a"), now=NOW).fingerprint != first


def test_a_broken_file_is_refused_by_its_address(put: Put, tables: dict[str, pa.Table], write: Write) -> None:
    folder = write(tables)
    (folder / "items" / "part-0.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(BadLogsError, match=r"unreadable file part-0\.parquet.*s3://bucket/logs/items/part-0\.parquet"):
        open_logs(put(folder), now=NOW)


def test_an_address_that_cannot_be_reached_is_refused(
    put: Put, tables: dict[str, pa.Table], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(write(tables))
    with pytest.raises(ConfigError, match=r"s3://nobody/logs: cannot be listed.*check the address"):
        open_logs("s3://nobody/logs")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(ConfigError, match=r"s3://bucket/logs: cannot be listed.*credentials"):
        open_logs("s3://bucket/logs")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://AKIA:hunter2@bucket/logs", r"s3://\.\.\.@bucket/logs: credentials do not belong"),
        ("ftp://host/logs", "no such kind of storage; there are folders, s3, gs"),
    ],
)
def test_addresses_that_mean_nothing_are_refused(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        location(address)
    assert "hunter2" not in str(caught.value)


def test_a_package_that_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(storage.PACKAGES, "gs", "a_package_that_nobody_wrote")
    with pytest.raises(ConfigError, match="install a_package_that_nobody_wrote, the package that reads gs://"):
        location("gs://bucket/logs")
