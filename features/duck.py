"""DuckDB as every stage uses it: bounded memory, UTC, spilling to a folder that goes away."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

MEMORY_LIMIT = "4GB"


def quote(identifier: str) -> str:
    """`identifier` as a quoted SQL name; values never go into SQL text, they are parameters."""
    return '"' + identifier.replace('"', '""') + '"'


@contextmanager
def session(
    *, memory_limit: str = MEMORY_LIMIT, threads: int | None = None, scratch: Path | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield an in-memory connection that keeps to `memory_limit` and spills to a folder under `scratch`."""
    with (
        tempfile.TemporaryDirectory(prefix=".alm-mta-spill-", dir=scratch) as spill,
        duckdb.connect() as connection,
    ):
        settings: dict[str, str | int] = {
            "memory_limit": memory_limit,
            "temp_directory": spill,
            "TimeZone": "UTC",
            "preserve_insertion_order": "false",
            "enable_progress_bar": "false",
        }
        if threads is not None:
            settings["threads"] = threads
        for name, value in settings.items():
            connection.execute(f"SET {name} = $value", {"value": value})
        yield connection


def used(sql: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that `sql` names, of `values`: DuckDB refuses any other."""
    return {name: value for name, value in values.items() if re.search(rf"\${name}\b", sql)}


def fetch_one(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    """The one row that `sql` gives."""
    (row,) = connection.execute(sql, dict(parameters or {})).fetchall()
    return tuple(row)


def write_parquet(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    path: Path,
    parameters: Mapping[str, Any] | None = None,
) -> None:
    """Stream `query`, which should be ordered by key, into one zstd Parquet file."""
    connection.execute(
        f"COPY ({query}) TO $destination (FORMAT parquet, COMPRESSION zstd)",
        {**(parameters or {}), "destination": str(path)},
    )


def read_parquet(
    connection: duckdb.DuckDBPyConnection, files: Path | Sequence[Path], **options: Any
) -> duckdb.DuckDBPyRelation:
    """The rows of Parquet files with the columns that they hold: a folder named key=value above them adds none."""
    paths = [str(file) for file in (files if isinstance(files, Sequence) else [files])]
    return connection.read_parquet(paths, hive_partitioning=False, **options)


def parquet_view(connection: duckdb.DuckDBPyConnection, name: str, files: Path | Sequence[Path]) -> None:
    """Make `name` a view of Parquet files."""
    read_parquet(connection, files).create_view(name, replace=True)


def by_file(values: Sequence[int]) -> str:
    """SQL: the value of the file that a row of a read over several Parquet files comes from, a value a file."""
    return f"list_extract({list(values)}::BIGINT[], CAST(file_index AS BIGINT) + 1)"


def parquet_sql(path: Path) -> str:
    """A FROM item for the Parquet file `path`, for interfaces that take SQL text only."""
    escaped = str(path).replace("'", "''")
    return f"read_parquet('{escaped}', hive_partitioning = false)"
