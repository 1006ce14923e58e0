"""Row-by-row checks of the data contract, as DuckDB SQL over streaming views.

A `Rule` is a predicate that no row may satisfy. One scan of a table counts the offenders of all its rules;
only a broken rule costs a second scan, which fetches the example. Keys, embedding widths and references to
`items/` are aggregates, one query each.

The queries run over `raw_<table>` views: contract's names, the files' own types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from features.contract import EARLIEST_SENSIBLE, Column, Table
from features.duck import fetch_one, quote, used
from features.duplicates import repeated
from features.errors import BadLogsError
from features.schema import Present, family


@dataclass(frozen=True, kw_only=True)
class Rule:
    """`predicate` (SQL, parameters $now and $earliest) is true of the rows that must not be there."""

    column: str
    problem: str
    predicate: str
    remedy: str


def check_rows(connection: duckdb.DuckDBPyConnection, table: Table, present: tuple[Present, ...], now: datetime) -> int:
    """Check every row of `raw_<table>`; the number of rows. BadLogsError on the first broken rule."""
    rules = _rules(table, present)
    counts = ", ".join(f"count(*) FILTER (WHERE {rule.predicate})" for rule in rules)
    known = {"now": now, "earliest": EARLIEST_SENSIBLE}
    sql = f"SELECT count(*), {counts} FROM raw_{table.name}"
    rows, *offenders = fetch_one(connection, sql, used(sql, known))
    if rows == 0:
        raise empty(table)
    for rule, count in zip(rules, offenders, strict=True):
        if count:
            shown = ", ".join(map(quote, dict.fromkeys((*table.key, rule.column))))
            sql = f"SELECT {shown} FROM raw_{table.name} WHERE {rule.predicate} ORDER BY ALL LIMIT 1"
            example = _example(connection, sql, used(sql, known))
            raise BadLogsError(
                rule.problem,
                table=table.name,
                column=rule.column,
                rows=count,
                example=example,
                remedy=rule.remedy,
            )
    check_key(connection, table)
    return int(rows)


def empty(table: Table) -> BadLogsError:
    """The refusal of a table without rows."""
    remedy = "Provide its rows" if table.required else "Provide its rows, or remove the folder"
    return BadLogsError("empty table", table=table.name, rows=0, remedy=remedy)


def check_key(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """BadLogsError when two rows of the table share its key."""
    surplus = repeated(connection, f"raw_{table.name}", table.key)
    if surplus:
        key = ", ".join(map(quote, table.key))
        grouped = f"SELECT {key}, count(*) AS copies FROM raw_{table.name} GROUP BY {key} HAVING count(*) > 1"
        raise BadLogsError(
            f"duplicate key ({', '.join(table.key)})",
            table=table.name,
            column=", ".join(table.key),
            rows=surplus,
            example=_example(connection, f"{grouped} ORDER BY ALL LIMIT 1"),
            remedy="Keep one row a key",
        )


def check_items_known(connection: duckdb.DuckDBPyConnection) -> None:
    """BadLogsError when a touchpoint names an item that the items table, which is there, does not hold."""
    unknown = "FROM raw_touchpoints ANTI JOIN raw_items USING (item_id)"
    count = fetch_one(connection, f"SELECT count(*) {unknown}")[0]
    if count:
        raise BadLogsError(
            "items unknown to the table 'items'",
            table="touchpoints",
            column="item_id",
            rows=count,
            example=_example(connection, f"SELECT user_id, item_id, ts {unknown} ORDER BY ALL LIMIT 1"),
            remedy="Add the items to items/, or remove that table",
        )


def embedding_dim(connection: duckdb.DuckDBPyConnection, table: Table, column: str) -> int:
    """Width D of the embeddings of a table, 0 when all are null; BadLogsError when rows differ."""
    name = quote(column)
    widths = connection.execute(
        f"SELECT len({name}) AS width, count(*) AS n FROM raw_{table.name} WHERE {name} IS NOT NULL "
        "GROUP BY width ORDER BY n DESC, width DESC"
    ).fetchall()
    if not widths:
        return 0
    (width, _), *others = widths
    if width == 0 or others:
        wrong = f"len({name}) {'=' if width == 0 else '<>'} $width"
        shown = f"{', '.join(map(quote, table.key))}, len({name}) AS dimension"
        sql = f"SELECT {shown} FROM raw_{table.name} WHERE {wrong} ORDER BY ALL LIMIT 1"
        raise BadLogsError(
            f"wrong embedding dimension (most rows have {width})",
            table=table.name,
            column=column,
            rows=sum(n for _, n in others) if width else widths[0][1],
            example=_example(connection, sql, {"width": width}),
            remedy="Write embeddings of one dimension above 0, or null where there is none",
        )
    return int(width)


def check_same_dim(connection: duckdb.DuckDBPyConnection, uploads_dim: int, items_dim: int) -> None:
    """BadLogsError when uploads and items are embedded in spaces of different dimension."""
    if uploads_dim and items_dim and uploads_dim != items_dim:
        raise BadLogsError(
            f"wrong embedding dimension: {uploads_dim}, but items/ has {items_dim}",
            table="uploads",
            column="embedding",
            rows=fetch_one(connection, "SELECT count(embedding) FROM raw_uploads")[0],
            example=_example(
                connection,
                "SELECT upload_id, len(embedding) AS dimension FROM raw_uploads "
                "WHERE embedding IS NOT NULL ORDER BY ALL LIMIT 1",
            ),
            remedy="Embed uploads and items with the same encoder",
        )


def _rules(table: Table, present: tuple[Present, ...]) -> list[Rule]:
    by_name = {column.name: column for column in table.columns}
    return [rule for p in present for rule in _rules_of(p, by_name.get(p.name), p.name in table.key)]


def _rules_of(present: Present, column: Column | None, in_key: bool) -> list[Rule]:
    """The rules of one column, the cheapest explanation of a bad row first; a profile's NaN is a missing value."""
    name = quote(present.name)
    if column is None:
        infinite = f"isinf(CAST({name} AS DOUBLE))" if family(present.stored) == "float" else "false"
        remedy = "Clip the values or write null where unknown"
        return [Rule(column=present.name, problem="infinite value", predicate=infinite, remedy=remedy)]
    rules = []
    if column.required:
        kind = "null key" if in_key else "null in a required column"
        rules.append((kind, f"{name} IS NULL", "Drop or repair these rows"))
    if column.is_timestamp:
        rules.append(("timestamp in the future", f"{name} > $now::TIMESTAMP", "Check clocks and time zones"))
        rules.append(("absurd timestamp", f"{name} < $earliest::TIMESTAMP", "Check the unit of the timestamp"))
    if column.low is not None and column.high is not None:
        # Parquet statistics ignore NaN, and filters are pruned by them: NaN needs a predicate of its own.
        outside = f"NOT ({name} BETWEEN {column.low} AND {column.high}) OR NOT isfinite(CAST({name} AS DOUBLE))"
        wanted = f"outside its range [{column.low:g}, {column.high:g}]"
        rules.append((wanted, outside, "Clip the values or write null where unobserved"))
    if column.dtype == "BOOLEAN" and family(present.stored) == "integer":
        rules.append(("outside its range {0, 1}", f"{name} NOT IN (0, 1)", "Write it as a boolean"))
    if column.is_embedding:
        finite = f"isfinite(list_sum({name})) AND list_count({name}) = len({name})"
        rules.append(("non-finite embedding", f"len({name}) > 0 AND NOT ({finite})", "Repair the embeddings"))
    if present.stored != column.dtype:
        lost = _loses(name, present.stored, column.dtype)
        rules.append((f"wrong type: {present.stored} values that {column.dtype} cannot hold", lost, "Cast it"))
    return [Rule(column=column.name, problem=p, predicate=sql, remedy=r) for p, sql, r in rules]


def _loses(name: str, stored: str, dtype: str) -> str:
    """SQL that is true where `stored` -> `dtype` fails or drops digits (rounding to float32 is allowed)."""
    if family(stored) == "time":
        return f"epoch_ns({name}) % 1000 <> 0" if stored.endswith("_NS") else "false"
    return f"{name} IS NOT NULL AND TRY_CAST({name} AS {dtype}) IS NULL"


def _example(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any] | None = None) -> str:
    """The first row of `sql` as 'column=value, ...'."""
    cursor = connection.execute(sql, dict(parameters or {}))
    names = [column[0] for column in cursor.description or ()]
    (row,) = cursor.fetchall()
    return ", ".join(f"{name}={str(value)[:60]}" for name, value in zip(names, row, strict=True))
