"""What is wrong with a published file, and on which line: asked only once a query over it has failed.

The file is read again for it, in its own order: by DuckDB for the first row that breaks a rule, then by Python for
the line of that row, or for a row of another length before it.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb

from features.duck import fetch_one, quote
from features.errors import ConfigError
from features.importers.published import DAMAGE, Rule, TextFile, raw_view, text_of
from features.settings import one_line

REMEDY = "repair the file or fetch it again"
CHUNK_BYTES = 1 << 20


@contextmanager
def reading(connection: duckdb.DuckDBPyConnection, file: TextFile, rules: Sequence[Rule]) -> Iterator[None]:
    """Turn a query's failure into a ConfigError with line, column and value, where the file is to blame for it.

    A gzip file whose checksum is wrong is refused too, once the query has ended: DuckDB does not look at it.
    """
    try:
        yield
    except duckdb.Error as error:
        if complaint := _complaint(connection, file, rules):
            raise ConfigError(f"{file.path}: {complaint}; {REMEDY}") from error
        raise
    if file.packed and (damage := _damage(file)):
        raise ConfigError(f"{file.path}: {damage}; {REMEDY}")


def refuse_repeated(connection: duckdb.DuckDBPyConnection, file: TextFile, column: str) -> None:
    """ConfigError naming both lines, where two rows of the file share the integer in `column`."""
    raw_view(connection, "repeating", file)
    keyed = f"SELECT row_number() OVER () AS row, TRY_CAST({quote(column)} AS BIGINT) AS key FROM repeating"
    rows, keys = fetch_one(connection, f"SELECT count(key), count(DISTINCT key) FROM ({keyed})")
    if rows == keys:
        return
    _in_file_order(connection)
    before = "lag(row) OVER (PARTITION BY key ORDER BY row)"
    row, first, key = fetch_one(
        connection,
        f"SELECT row, before, key FROM (SELECT *, {before} AS before FROM ({keyed}) WHERE key IS NOT NULL) "
        "WHERE before IS NOT NULL ORDER BY row LIMIT 1",
    )
    line_of = {number: line for number, line, _ in _lines(file) if number in (row, first)}
    raise ConfigError(
        f"{file.path}: line {line_of[row]}, column '{column}': {key} is in line {line_of[first]} already; {REMEDY}"
    )


def _complaint(connection: duckdb.DuckDBPyConnection, file: TextFile, rules: Sequence[Rule]) -> str | None:
    """What is wrong with the file at its first wrong line; None when nothing is."""
    broken = _first_broken(connection, file, rules)
    try:
        for row, line, cells in _lines(file):
            if cells != len(file.columns):
                return f"line {line}: {cells} cells instead of {len(file.columns)}"
            if broken and row == broken[0]:
                _, rule, value = broken
                return f"line {line}, column '{rule.column}': {value!r} is not {rule.wanted}"
    except DAMAGE as error:
        return one_line(error)
    return None


def _damage(file: TextFile) -> str | None:
    """What gzip finds wrong with the file."""
    try:
        with gzip.open(file.path, "rb") as stream:
            while stream.read(CHUNK_BYTES):
                pass
    except DAMAGE as error:
        return one_line(error)
    return None


def _first_broken(
    connection: duckdb.DuckDBPyConnection, file: TextFile, rules: Sequence[Rule]
) -> tuple[int, Rule, str] | None:
    """(row from 1, the rule it breaks, its cell); None where no rule is broken or the rows cannot be parsed."""
    raw_view(connection, "suspect", file)
    _in_file_order(connection)
    broken = " ".join(f"WHEN NOT coalesce({rule.holds}, false) THEN {i}" for i, rule in enumerate(rules))
    cells = " ".join(f"WHEN {i} THEN {quote(rule.column)}" for i, rule in enumerate(rules))
    try:
        found = connection.execute(
            f"SELECT row, broken, coalesce(CASE broken {cells} END, '') "
            f"FROM (SELECT *, CASE {broken} END AS broken FROM (SELECT *, row_number() OVER () AS row FROM suspect)) "
            "WHERE broken IS NOT NULL ORDER BY row LIMIT 1"
        ).fetchone()
    except duckdb.Error:
        return None
    return (found[0], rules[found[1]], found[2]) if found else None


def _in_file_order(connection: duckdb.DuckDBPyConnection) -> None:
    """Have row_number() OVER () count the rows as the file has them."""
    connection.execute("SET threads = 1")
    connection.execute("SET preserve_insertion_order = true")


def _lines(file: TextFile) -> Iterator[tuple[int, int, int]]:
    """(row from 1, line on which it ends, cells) of every row under the header."""
    with text_of(file.path, file.packed) as stream:
        reader = csv.reader(stream, delimiter=file.delimiter)
        rows = ((reader.line_num, len(cells)) for cells in reader if cells)
        next(rows, None)
        for row, (line, cells) in enumerate(rows, start=1):
            yield row, line, cells
