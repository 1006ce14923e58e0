"""Opens a folder of logs: everything the data contract asks for is checked here, before anything is spent.

logs = open_logs(root)
with session() as connection:
    logs.register(connection)
    connection.sql("SELECT count(*) FROM touchpoints")
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from features import checks
from features.contract import RESPONSES, TABLES, Table
from features.duck import fetch_one, quote, read_parquet, session
from features.errors import BadLogsError, ConfigError
from features.files import sha256_json
from features.schema import Present, agree, unreadable
from features.storage import attach, digest, location, reach

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Logs:
    """Logs that keep the data contract.

    root: the folder, here or in an object store (features/storage.py). files: table -> its Parquet files, sorted.
    columns: table -> the columns it holds.
    rows: table -> number of rows. responses: response columns of the touchpoints, in the contract's order.
    embedding_dim: D of uploads and items, 0 without any. has_*: whether optional parts hold anything.
    earliest_ts, latest_ts: first and last event of touchpoints and uploads, UTC without a zone.
    fingerprint: SHA-256 over all bytes (an object store: what it says of them), relative names and the mapping.
    """

    root: Path
    files: Mapping[str, tuple[Path, ...]]
    columns: Mapping[str, tuple[Present, ...]]
    rows: Mapping[str, int]
    responses: tuple[str, ...]
    embedding_dim: int
    has_items: bool
    has_users: bool
    has_item_embeddings: bool
    has_upload_embeddings: bool
    has_randomised: bool
    earliest_ts: datetime
    latest_ts: datetime
    fingerprint: str

    @property
    def profile(self) -> tuple[Present, ...]:
        """The profile columns of users/, by name."""
        known = {column.name for column in TABLES["users"].columns}
        return tuple(p for p in self.columns.get("users", ()) if p.name not in known)

    def has(self, table: str, column: str) -> bool:
        """Whether the logs hold `column` of `table`."""
        return any(p.name == column for p in self.columns.get(table, ()))

    def register(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make a view per table that is there, with the contract's names and types; sets TimeZone to UTC."""
        connection.execute("SET TimeZone = 'UTC'")
        attach(connection, self.root)
        for name, files in self.files.items():
            _register(connection, name, files, self.columns[name])


def open_logs(
    root: Path | str,
    *,
    mapping: Mapping[str, Mapping[str, str]] | None = None,
    now: datetime | None = None,
) -> Logs:
    """Check the logs under `root` against the data contract and describe them.

    mapping: table -> (contract's column -> the files' column). now: what counts as the present (default: now).
    Raises BadLogsError naming table, column, rows and an example; ConfigError for a mapping of nothing known.
    """
    began = time.monotonic()
    root, mapping = location(root), mapping or {}
    _check_mapping(mapping)
    moment = (now or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None)
    reach(root)
    files = {name: found for name, table in TABLES.items() if (found := _files(root, table))}
    with session() as connection:
        attach(connection, root)
        columns = {name: agree(connection, TABLES[name], files[name], mapping.get(name, {})) for name in files}
        rows: dict[str, int] = {}
        for name in files:
            with _reading(connection, name, files[name]):
                _register(connection, name, files[name], columns[name])
                rows[name] = checks.check_rows(connection, TABLES[name], columns[name], moment)
        logs = _describe(connection, root, files, columns, rows, _fingerprint(root, files, mapping))
    logger.info("logs: %s in %.1f s", ", ".join(f"{n:,} {t}" for t, n in rows.items()), time.monotonic() - began)
    return logs


def _describe(
    connection: duckdb.DuckDBPyConnection,
    root: Path,
    files: dict[str, tuple[Path, ...]],
    columns: dict[str, tuple[Present, ...]],
    rows: dict[str, int],
    fingerprint: str,
) -> Logs:
    """The facts about checked tables; the checks between tables happen here."""
    held = {name: {p.name for p in present} for name, present in columns.items()}
    dims = {
        name: checks.embedding_dim(connection, TABLES[name], "embedding")
        for name in ("uploads", "items")
        if "embedding" in held.get(name, ())
    }
    checks.check_same_dim(connection, dims.get("uploads", 0), dims.get("items", 0))
    if "items" in files:
        checks.check_items_known(connection)
    earliest, latest = fetch_one(
        connection,
        "SELECT min(ts), max(ts) FROM (SELECT ts FROM touchpoints UNION ALL SELECT ts FROM uploads)",
    )
    randomised = "randomised" in held["touchpoints"] and bool(
        fetch_one(connection, "SELECT coalesce(bool_or(randomised), false) FROM touchpoints")[0]
    )
    return Logs(
        root=root,
        files=files,
        columns=columns,
        rows=rows,
        responses=tuple(name for name in RESPONSES if name in held["touchpoints"]),
        embedding_dim=max(dims.values(), default=0),
        has_items="items" in files,
        has_users="users" in files,
        has_item_embeddings=dims.get("items", 0) > 0,
        has_upload_embeddings=dims.get("uploads", 0) > 0,
        has_randomised=randomised,
        earliest_ts=earliest,
        latest_ts=latest,
        fingerprint=fingerprint,
    )


def _check_mapping(mapping: Mapping[str, Mapping[str, str]]) -> None:
    for table, names in mapping.items():
        if table not in TABLES:
            raise ConfigError(f"mapping: no table '{table}' in the contract; it has {', '.join(TABLES)}")
        known = [column.name for column in TABLES[table].columns]
        for name in names:
            if name not in known:
                raise ConfigError(f"mapping: no column '{name}' in table '{table}'; it has {', '.join(known)}")


def _files(root: Path, table: Table) -> tuple[Path, ...]:
    """The Parquet files of a table, sorted; none for an optional table without a folder."""
    folder = root / table.name
    if not folder.is_dir():
        if not table.required:
            return ()
        raise BadLogsError(
            "missing table", table=table.name, example=str(folder), remedy="Provide the folder with its files"
        )
    files: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if not entry.name.startswith((".", "_")):
            files += _partition(table, entry) if entry.is_dir() else [_parquet(table, entry)]
    if not files:
        raise checks.empty(table)
    return tuple(files)


def _partition(table: Table, folder: Path) -> list[Path]:
    key, _, day = folder.name.partition("=")
    try:
        if key != "dt":
            raise ValueError(folder.name)
        date.fromisoformat(day)
    except ValueError:
        raise BadLogsError(
            "unexpected folder", table=table.name, example=str(folder), remedy="Name it dt=YYYY-MM-DD"
        ) from None
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "_")))
    return [_parquet(table, entry) for entry in entries]


def _parquet(table: Table, file: Path) -> Path:
    if file.suffix != ".parquet" or not file.is_file():
        raise unreadable(table.name, file, ValueError("its name does not end in .parquet"))
    return file


def _register(
    connection: duckdb.DuckDBPyConnection, table: str, files: tuple[Path, ...], columns: tuple[Present, ...]
) -> None:
    """Views `raw_<table>` (contract's names, the files' types) and `<table>` (contract's types too)."""
    relation = read_parquet(connection, files, union_by_name=True)
    renamed = ", ".join(f"{quote(p.source)} AS {quote(p.name)}" for p in columns)
    relation.project(renamed).create_view(f"raw_{table}", replace=True)
    typed = ", ".join(f"{_cast(p)} AS {quote(p.name)}" for p in columns)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS SELECT {typed} FROM raw_{table}")


def _cast(present: Present) -> str:
    name = quote(present.name)
    if present.stored == present.dtype:
        return name
    if present.stored == "TIMESTAMP WITH TIME ZONE":
        return f"make_timestamp(epoch_us({name}))"
    if present.stored == "TIMESTAMPTZ_NS":
        return f"make_timestamp(epoch_ns({name}) // 1000)"
    return f"CAST({name} AS {present.dtype})"


@contextmanager
def _reading(connection: duckdb.DuckDBPyConnection, table: str, files: tuple[Path, ...]) -> Iterator[None]:
    """Turn a failure of a scan into a refusal that names the damaged file, if one of them is to blame."""
    try:
        yield
    except duckdb.Error:
        for file in files:
            try:
                connection.execute(
                    "SELECT max(hash(f)) FROM read_parquet($file, hive_partitioning = false) AS f",
                    {"file": str(file)},
                ).fetchall()
            except duckdb.Error as error:
                raise unreadable(table, file, error) from error
        raise


def _fingerprint(root: Path, files: Mapping[str, tuple[Path, ...]], mapping: Mapping[str, Mapping[str, str]]) -> str:
    hashes = {
        table: {file.relative_to(root / table).as_posix(): digest(file) for file in found}
        for table, found in files.items()
    }
    content = {"files": hashes, "mapping": {table: dict(names) for table, names in mapping.items()}}
    return sha256_json(content)
