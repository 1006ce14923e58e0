"""What the files of a table hold: one DESCRIBE a file, and whether it is what the contract asks for.

A type is accepted when every value can be cast to the contract's type without loss; whether the values at
hand do is asked later, row by row (`features/checks.py`). So any width of integer may stand for int64, and
0/1 integers for a flag; a double is rounded to float32, which no measurement notices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from features.contract import Column, Table
from features.errors import BadLogsError

_FAMILIES = {
    "integer": {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}
    | {"UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"},
    "float": {"FLOAT", "DOUBLE"},
    "flag": {"BOOLEAN"},
    "text": {"VARCHAR"},
    "time": {
        "TIMESTAMP",
        "TIMESTAMP WITH TIME ZONE",
        "TIMESTAMP_S",
        "TIMESTAMP_MS",
        "TIMESTAMP_NS",
        "TIMESTAMPTZ_NS",
        "DATE",
    },
    "nothing": {'"NULL"', "NULL"},
}
_ACCEPTED = {
    "BIGINT": {"integer"},
    "INTEGER": {"integer"},
    "TIMESTAMP": {"time"},
    "FLOAT": {"float", "integer"},
    "BOOLEAN": {"flag", "integer"},
    "VARCHAR": {"text"},
    "FLOAT[]": {"floats"},
}
_PROFILE = {"integer", "float", "flag", "text"}


@dataclass(frozen=True, kw_only=True)
class Present:
    """A column that the files of a table hold.

    name: the contract's name. source: the files' name. dtype: the type readers see.
    stored: the type over all files, as DuckDB unites them.
    """

    name: str
    source: str
    dtype: str
    stored: str


def family(dtype: str) -> str:
    """The family of a DuckDB type: integer, float, flag, text, time, floats, nothing, or the type itself."""
    if re.fullmatch(r"(FLOAT|DOUBLE)\[\d*\]", dtype):
        return "floats"
    if dtype.startswith("DECIMAL"):
        return "float"
    return next((name for name, members in _FAMILIES.items() if dtype in members), dtype)


def profile_dtype(stored: str) -> str:
    """The type that readers see for a profile column: BIGINT, DOUBLE or VARCHAR (a flag is 0/1)."""
    return {"integer": "BIGINT", "flag": "BIGINT", "text": "VARCHAR"}.get(family(stored), "DOUBLE")


def describe(connection: duckdb.DuckDBPyConnection, table: Table, files: Sequence[Path]) -> dict[str, str]:
    """Column -> DuckDB type over `files` together; BadLogsError when they cannot be read."""
    try:
        rows = connection.execute(
            "DESCRIBE SELECT * FROM read_parquet($files, union_by_name = true, hive_partitioning = false)",
            {"files": [str(file) for file in files]},
        ).fetchall()
    except duckdb.Error as error:
        raise unreadable(table.name, files[0], error) from error
    return {row[0]: row[1] for row in rows}


def unreadable(table: str, file: Path, error: Exception) -> BadLogsError:
    """The refusal of a file that is truncated or no Parquet at all."""
    return BadLogsError(
        f"unreadable file {file.name}: {str(error).splitlines()[0][:200]}",
        table=table,
        example=str(file),
        remedy="Write the file again, or remove it",
    )


def agree(
    connection: duckdb.DuckDBPyConnection, table: Table, files: Sequence[Path], mapping: Mapping[str, str]
) -> tuple[Present, ...]:
    """The columns that all `files` of `table` hold, in the contract's order, then profiles by name.

    mapping: contract's column -> the files' column; a column of the files that bears the mapped name is left
    out. Raises BadLogsError for an unreadable file, a missing required column, a wrong type, or files that disagree.
    """
    by_file = {file: describe(connection, table, [file]) for file in files}
    sources = {column.name: mapping.get(column.name, column.name) for column in table.columns}
    if table.open_ended:
        extra = {name for columns in by_file.values() for name in columns} - {*sources, *sources.values(), "dt"}
        sources |= {name: name for name in sorted(extra)}
    wanted = {column.name: column for column in table.columns}
    for name, source in sources.items():
        _refuse_missing(table, wanted.get(name), name in mapping, source, by_file)
    found = {name: source for name, source in sources.items() if _refuse_conflict(table, name, source, by_file)}
    united = describe(connection, table, files)
    return tuple(_typed(table, name, source, united[source], wanted.get(name)) for name, source in found.items())


def _refuse_missing(
    table: Table, column: Column | None, mapped: bool, source: str, by_file: Mapping[Path, dict[str, str]]
) -> None:
    if column is None or not (column.required or mapped):
        return
    if any(source in columns for columns in by_file.values()):
        return
    held = sorted({name for columns in by_file.values() for name in columns})
    raise BadLogsError(
        f"missing column '{source}' ({column.meaning})",
        table=table.name,
        column=column.name,
        example=f"the files hold {', '.join(held)}",
        remedy="Add the column, or map another name to it",
    )


def _refuse_conflict(table: Table, name: str, source: str, by_file: Mapping[Path, dict[str, str]]) -> bool:
    """Whether the files hold `source` with other values than nulls; BadLogsError if they disagree on it."""
    kinds: dict[str, str] = {}
    holders = [file for file, columns in by_file.items() if source in columns]
    for file in holders:
        kind = family(by_file[file][source])
        if kind != "nothing":
            kind = "number" if kind in {"integer", "float"} else kind
            kinds.setdefault(kind, f"{by_file[file][source]} in {file.name}")
    example = " and ".join(kinds.values()) if len(kinds) > 1 else ""
    if 0 < len(holders) < len(by_file):
        lacking = next(file for file in by_file if file not in holders)
        example = f"{holders[0].name} holds '{source}' and {lacking.name} does not"
    if example:
        raise BadLogsError(
            "conflicting schema between files",
            table=table.name,
            column=name,
            example=example,
            remedy="Write all files of the table with one schema",
        )
    return bool(kinds)


def _typed(table: Table, name: str, source: str, stored: str, column: Column | None) -> Present:
    accepted = _ACCEPTED[column.dtype] if column else _PROFILE
    meant = f"{column.dtype} ({column.meaning})" if column else "a number or a text"
    if family(stored) not in accepted:
        raise BadLogsError(
            f"wrong type {stored}",
            table=table.name,
            column=name,
            example=f"column '{source}'",
            remedy=f"Write it as {meant}" + ("" if column else ", or drop the column"),
        )
    dtype = column.dtype if column else profile_dtype(stored)
    return Present(name=name, source=source, dtype=dtype, stored=stored)
