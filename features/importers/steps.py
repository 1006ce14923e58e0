"""The two steps of every import: what is read is kept by source file and day, then the tables are made of that.

Rows of one day are all that has to be sorted at once, and a file or a day that is finished is not done again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from features.duck import fetch_one, parquet_view, write_parquet
from features.files import atomic_dir, atomic_file
from features.importers.folder import PART, Workspace

logger = logging.getLogger(__name__)

SILENCE_S = 15.0
FLUSH_ROWS = 65_536
"""Rows of one day that a thread collects before it writes them: days times threads of these are in memory."""


def stage(connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str, query: str) -> None:
    """Keep the rows of `query`, which has a column dt (DATE), by day under the stage's folder `name`; once."""
    folder = workspace.stage / name
    if folder.exists():
        logger.info("import: %s was read before, kept", name)
        return
    began = time.monotonic()
    connection.execute(f"SET partitioned_write_flush_threshold = {FLUSH_ROWS}")
    with atomic_dir(folder) as temporary, _progress(connection, f"reading {name}"):
        connection.execute(
            f"COPY ({query}) TO $folder (FORMAT parquet, PARTITION_BY (dt), OVERWRITE_OR_IGNORE true)",
            {"folder": str(temporary)},
        )
    logger.info("import: %s read, %.1f s", name, time.monotonic() - began)


def staged(connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str, pattern: str) -> None:
    """Make `name` a view of the stage's files that match `pattern`, SOURCE/dt=DAY of it."""
    parquet_view(connection, name, sorted(workspace.stage.glob(f"{pattern}/*.parquet")))


def write_days(connection: duckdb.DuckDBPyConnection, workspace: Workspace, query: str) -> None:
    """Write touchpoints/, a file a day, from `query` over the view `day`; days that are there are kept."""
    began = said = time.monotonic()
    days = workspace.days()
    for done, day in enumerate(days, start=1):
        staged(connection, workspace, "day", f"*/dt={day}")
        write_once(connection, query, workspace.tables / "touchpoints" / f"dt={day}" / PART)
        if done == len(days) or time.monotonic() - said > SILENCE_S:
            said = time.monotonic()
            logger.info("import: %d of %d days written, %.1f s", done, len(days), said - began)


def write_once(
    connection: duckdb.DuckDBPyConnection, query: str, path: Path, parameters: Mapping[str, Any] | None = None
) -> None:
    """Write `query` into the Parquet file `path`, unless that is there."""
    if not path.exists():
        with atomic_file(path) as temporary, _progress(connection, f"writing {path.parent.name}"):
            write_parquet(connection, query, temporary, parameters)


def rows_staged(connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str) -> int:
    """Rows that were read of the source file `name`."""
    return _rows(connection, workspace.stage / name)


def rows_written(connection: duckdb.DuckDBPyConnection, workspace: Workspace) -> dict[str, int]:
    """Rows of every table that was written, by name."""
    return {table.name: _rows(connection, table) for table in sorted(workspace.tables.iterdir())}


def _rows(connection: duckdb.DuckDBPyConnection, folder: Path) -> int:
    files = [str(file) for file in sorted(folder.rglob("*.parquet"))]
    counted = "SELECT count(*) FROM read_parquet($files, hive_partitioning = false)"
    return int(fetch_one(connection, counted, {"files": files})[0]) if files else 0


@contextmanager
def _progress(connection: duckdb.DuckDBPyConnection, what: str) -> Iterator[None]:
    """Say how far the running query is, while it takes long."""
    connection.execute("SET enable_progress_bar = true")
    connection.execute("SET enable_progress_bar_print = false")
    ended = threading.Event()

    def say() -> None:
        while not ended.wait(SILENCE_S):
            logger.info("import: %s, %.0f%%", what, max(0.0, connection.query_progress()))

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
