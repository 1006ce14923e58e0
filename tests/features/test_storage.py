"""Logs in object stores, against real servers on loopback: one of S3's interface and one of Google's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_stores import SECRET, gs_server, s3_server
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


SERVERS = {"s3": s3_server, "gs": gs_server}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, str]]]:
    """Kind of address, and the environment that leads to the store."""
    with SERVERS[request.param]() as environment:
        yield request.param, environment


@pytest.fixture
def put(server: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Put:
    """put(folder, name) copies a folder of logs into a bucket, in place of what was there, and returns its address."""
    kind, environment = server
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = fsspec.filesystem(kind, skip_instance_cache=True)

    def copy(folder: Path, name: str = "logs") -> str:
        if not store.exists("bucket"):
            store.mkdir("bucket")
        if store.exists(f"bucket/{name}"):
            store.rm(f"bucket/{name}", recursive=True)
        for file in folder.rglob("*.parquet"):
            store.pipe_file(f"bucket/{name}/{file.relative_to(folder)}", file.read_bytes())
        return f"{kind}://bucket/{name}"

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


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # the upload of this test
def test_partitions_are_read_by_their_columns(
    put: Put, tables: dict[str, pa.Table], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hive folders count; a query for one column of a wide file fetches little of it."""
    touches = tables["touchpoints"].append_column("wide", pa.array([bytes(range(256)) * 2_500] * 5, pa.large_binary()))
    folder = write({name: table for name, table in tables.items() if name != "touchpoints"})
    day = folder / "touchpoints" / "dt=2024-03-01"
    day.mkdir(parents=True)
    pq.write_table(touches, day / "part-0.parquet", compression="none", use_dictionary=False)
    address = put(folder)
    logs = open_logs(address, now=NOW)
    assert [str(file) for file in logs.files["touchpoints"]] == [f"{address}/touchpoints/dt=2024-03-01/part-0.parquet"]
    size = (day / "part-0.parquet").stat().st_size
    fetched: list[int] = []
    with fsspec.open(f"{address}/touchpoints/dt=2024-03-01/part-0.parquet") as file:
        opened = type(file)
    original = opened._fetch_range

    def counted(file: Any, start: int, end: int) -> bytes:
        fetched.append(end - start)
        return bytes(original(file, start, end))

    monkeypatch.setattr(opened, "_fetch_range", counted)
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
    address = put(folder)
    named = rf"unreadable file part-0\.parquet.*{address}/items/part-0\.parquet"
    with pytest.raises(BadLogsError, match=named):
        open_logs(address, now=NOW)


def test_an_address_that_cannot_be_reached_is_refused(put: Put, tables: dict[str, pa.Table], write: Write) -> None:
    nobody = put(write(tables)).replace("bucket", "nobody")
    with pytest.raises(ConfigError, match=rf"{nobody}: cannot be listed.*check the address"):
        open_logs(nobody)


@pytest.mark.parametrize("server", ["s3"], indirect=True)
def test_a_missing_key_is_named(
    put: Put, tables: dict[str, pa.Table], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(write(tables))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
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
