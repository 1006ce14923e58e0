"""Every kind of bad input, planted into a copy of simulated logs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

PART = "part-0.parquet"


def _edit(table: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def corrupt(logs: Path) -> None:
        path = logs / table / PART
        pq.write_table(change(pq.read_table(path)), path)

    return corrupt


def _with(column: str, values: Callable[[pa.ChunkedArray], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    return lambda t: t.set_column(t.column_names.index(column), column, values(t[column]))


def _first(value: Any) -> Callable[[pa.ChunkedArray], pa.Array]:
    """The column with its first value replaced."""
    return lambda column: pa.array([value, *column.to_pylist()[1:]], column.type)


def _truncate(logs: Path) -> None:
    path = logs / "uploads" / PART
    path.write_bytes(path.read_bytes()[:-40])


def _conflict(logs: Path) -> None:
    other = pq.read_table(logs / "touchpoints" / PART).slice(0, 1)
    text = other.set_column(other.column_names.index("author_id"), "author_id", pa.array(["a"]))
    pq.write_table(text, logs / "touchpoints" / "part-1.parquet")


KINDS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "missing column": (_edit("touchpoints", lambda t: t.drop_columns(["author_id"])), "touchpoints", "author_id"),
    "wrong type": (_edit("uploads", _with("ts", lambda c: pa.array([0.5] * len(c)))), "uploads", "ts"),
    "null key": (_edit("touchpoints", _with("item_id", _first(None))), "touchpoints", "item_id"),
    "duplicate key": (_edit("items", lambda t: pa.concat_tables([t, t.slice(0, 1)])), "items", "item_id"),
    "future": (_edit("touchpoints", _with("ts", _first(datetime(2200, 1, 1)))), "touchpoints", "ts"),
    "absurd time": (_edit("touchpoints", _with("ts", _first(datetime(1970, 1, 2)))), "touchpoints", "ts"),
    "response range": (_edit("touchpoints", _with("watch_ratio", _first(1.5))), "touchpoints", "watch_ratio"),
    "non-finite embedding": (_edit("items", _with("embedding", _first([float("nan")] * 16))), "items", "embedding"),
    "wrong dimension": (_edit("items", _with("embedding", _first([0.0] * 3))), "items", "embedding"),
    "unknown item": (_edit("touchpoints", _with("item_id", _first(10**9))), "touchpoints", "item_id"),
    "empty table": (_edit("touchpoints", lambda t: t.slice(0, 0)), "touchpoints", "empty"),
    "unreadable file": (_truncate, "uploads", PART),
    "conflicting schema": (_conflict, "touchpoints", "author_id"),
}
"""kind -> what plants it, the table and what else the message must name."""
