"""Delimited text as publishers write it: DuckDB reads it, and every cell that is used is checked while it streams past.

    file = open_text(path, delimiter=",", needed=("user_id",), format_name="a CSV file of KuaiRand")
    with reading(connection, file, rules):  # features/importers/refusal.py
        checked_view(connection, "log", file, rules)
        connection.execute("COPY (SELECT ... FROM log) TO ...")

All cells come as text, an empty one as null. Empty lines mean nothing.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

import duckdb

from features.duck import quote
from features.errors import ConfigError
from features.settings import one_line

GZIP = b"\x1f\x8b"
DAMAGE = (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error)
"""What Python raises where a file is truncated, damaged or no text."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one cell of every row must hold.

    column: its name. holds: SQL over the row's cells, true where the cell is right (null counts as wrong).
    wanted: what a right cell is, in words.
    """

    column: str
    holds: str
    wanted: str


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """A delimited file whose header was found right.

    columns: in the order of its header. packed: whether it is gzip, whatever its name says.
    """

    path: Path
    delimiter: str
    columns: tuple[str, ...]
    packed: bool
    format_name: str


def integer(column: str, *, low: int = 0, high: int = 10**18 - 1, wanted: str = "an integer id") -> Rule:
    """A rule: decimal digits, within [low, high]."""
    name = quote(column)
    digits = f"regexp_full_match({name}, '-?[0-9]{{1,18}}')"
    return Rule(column=column, holds=f"{digits} AND TRY_CAST({name} AS BIGINT) BETWEEN {low} AND {high}", wanted=wanted)


def number(column: str, *, negative: bool = False) -> Rule:
    """A rule: a decimal number, of 0 or more unless `negative`."""
    sign, wanted = ("-?", "a number") if negative else ("", "a number of 0 or more")
    pattern = rf"{sign}[0-9]{{1,15}}(\.[0-9]+)?"
    return Rule(column=column, holds=f"regexp_full_match({quote(column)}, '{pattern}')", wanted=wanted)


def flag(column: str) -> Rule:
    """A rule: 0 or 1."""
    return Rule(column=column, holds=f"{quote(column)} IN ('0', '1')", wanted="0 or 1")


def open_text(path: Path, *, delimiter: str, needed: Sequence[str], format_name: str) -> TextFile:
    """Read the header of `path`, gzip or plain; ConfigError naming the columns of `needed` that it lacks."""
    try:
        packed = _is_packed(path)
        with text_of(path, packed) as stream:
            columns = next(csv.reader(stream, delimiter=delimiter), [])
    except DAMAGE as error:
        raise ConfigError(f"{path}: {one_line(error)}; expected {format_name}") from error
    if not columns:
        raise ConfigError(f"{path}: Empty CSV file; expected {format_name}")
    if absent := [name for name in needed if name not in columns]:
        held = ", ".join(columns)[:300]
        raise ConfigError(f"{path}: no column {', '.join(absent)} in line 1; it has {held}; expected {format_name}")
    if len(set(columns)) < len(columns):
        raise ConfigError(f"{path}: a column is named twice in line 1; expected {format_name}")
    return TextFile(path=path, delimiter=delimiter, columns=tuple(columns), packed=packed, format_name=format_name)


def checked_view(connection: duckdb.DuckDBPyConnection, name: str, file: TextFile, rules: Sequence[Rule]) -> None:
    """Make `name` a view of the file's rows, cells as text; a query over it fails at a row that breaks a rule."""
    raw_view(connection, f"{name}_as_published", file)
    right = " AND ".join(f"({rule.holds})" for rule in rules)
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM {name}_as_published "
        f"WHERE CASE WHEN coalesce({right}, false) THEN true ELSE error('a rule is broken') END"
    )


def raw_view(connection: duckdb.DuckDBPyConnection, name: str, file: TextFile) -> None:
    """Make `name` a view of the file's rows, cells as text, as they are."""
    connection.read_csv(
        str(file.path),
        header=True,
        sep=file.delimiter,
        columns=dict.fromkeys(file.columns, "VARCHAR"),
        quotechar='"',
        escapechar='"',
        compression="gzip" if file.packed else "none",
        auto_detect=False,
        hive_partitioning=False,
    ).create_view(name, replace=True)


def text_of(path: Path, packed: bool) -> TextIO:
    """The file's text, opened; to read it may raise one of DAMAGE."""
    if packed:
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open(encoding="utf-8-sig", newline="")


def _is_packed(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(GZIP)) == GZIP
