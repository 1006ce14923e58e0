"""The point-in-time join as one DuckDB query: an ASOF join per feature view.

For entity row e and view v, with the same keys:

    f(e) = features of the row of v with the latest timestamp t ≤ e.event_timestamp,
           null where there is none or e.event_timestamp > t + ttl      (ttl 0: never expires)

Among rows of v with the same key and t the latest `created` counts (write each key and t once where the
source has no created column). Every entity row comes back exactly once. Timestamps without a zone are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from features.duck import quote
from features.errors import ConfigError

EVENT_TIMESTAMP = "event_timestamp"


@dataclass(frozen=True, kw_only=True)
class ViewJoin:
    """What one feature view contributes to the join.

    files: Parquet path or glob. keys: entity column -> source column. features: output -> source column.
    timestamp, created: source columns; created may be absent. ttl: None or 0 never expires.
    """

    files: str
    keys: Mapping[str, str]
    features: Mapping[str, str]
    timestamp: str
    created: str | None
    ttl: timedelta | None


def asof_query(views: Sequence[ViewJoin], entity_columns: Sequence[str]) -> str:
    """The SQL over the views `entity` and `view_0`, `view_1`, ...; ConfigError on colliding names."""
    _refuse_bad_columns(views, entity_columns)
    outputs = [f"entity.{quote(name)}" for name in entity_columns]
    joins = []
    for i, view in enumerate(views):
        alias = f"joined_{i}"
        alive = f"asof_entity_ts <= {alias}.asof_view_ts + {_interval(view.ttl)}" if view.ttl else "true"
        outputs += [f"CASE WHEN {alive} THEN {alias}.{quote(name)} END AS {quote(name)}" for name in view.features]
        on = [f"entity.{quote(key)} = {alias}.asof_key_{k}" for k, key in enumerate(view.keys)]
        condition = " AND ".join([*on, f"asof_entity_ts >= {alias}.asof_view_ts"])
        joins.append(f"ASOF LEFT JOIN ({_source_sql(view, i)}) AS {alias} ON {condition}")
    stamped = f"SELECT *, {_utc(EVENT_TIMESTAMP)} AS asof_entity_ts FROM entity"
    return f"SELECT {', '.join(outputs)} FROM ({stamped}) AS entity {' '.join(joins)}"


@dataclass(frozen=True, kw_only=True)
class RangeScan:
    """A stretch of one source: columns as the source names them; latest_only keeps one row a key."""

    files: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    timestamp: str
    created: str | None
    latest_only: bool


def range_query(scan: RangeScan) -> str:
    """The SQL over the view `source`, with the parameters $start and $end, both inclusive."""
    stamps = [scan.timestamp, *([scan.created] if scan.created else [])]
    columns = ", ".join(map(quote, (*scan.keys, *scan.columns, *stamps)))
    bounds = "CAST($start AS TIMESTAMPTZ) AND CAST($end AS TIMESTAMPTZ)"
    sql = f"SELECT {columns} FROM source WHERE {_utc(scan.timestamp)} BETWEEN {bounds}"
    if not scan.latest_only:
        return f"{sql} ORDER BY {_utc(scan.timestamp)}"
    newest = ", ".join(f"{_utc(stamp)} DESC NULLS LAST" for stamp in stamps)
    keys = ", ".join(map(quote, scan.keys))
    return f"{sql} QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {newest}) = 1"


def _source_sql(view: ViewJoin, index: int) -> str:
    """Keys, asof_view_ts and features of one view, a row per key and timestamp if `created` can tell them apart."""
    keys = [f"{quote(column)} AS asof_key_{k}" for k, column in enumerate(view.keys.values())]
    features = [f"{quote(column)} AS {quote(name)}" for name, column in view.features.items()]
    columns = ", ".join([*keys, f"{_utc(view.timestamp)} AS asof_view_ts", *features])
    sql = f"SELECT {columns} FROM view_{index}"
    if view.created is None:
        return sql
    same = ", ".join([*map(quote, view.keys.values()), quote(view.timestamp)])
    return f"{sql} QUALIFY row_number() OVER (PARTITION BY {same} ORDER BY {_utc(view.created)} DESC NULLS LAST) = 1"


def _utc(column: str) -> str:
    # The session's TimeZone is UTC, so a timestamp without a zone becomes UTC.
    return f"CAST({quote(column)} AS TIMESTAMPTZ)"


def _interval(ttl: timedelta) -> str:
    return f"to_microseconds({ttl // timedelta(microseconds=1)})"


def _refuse_bad_columns(views: Sequence[ViewJoin], entity_columns: Sequence[str]) -> None:
    needed = dict.fromkeys([EVENT_TIMESTAMP, *(key for view in views for key in view.keys)])
    lacking = [name for name in needed if name not in entity_columns]
    if lacking:
        raise ConfigError(f"the entity table lacks {lacking}; it has {list(entity_columns)}")
    names = [*entity_columns, *(name for view in views for name in view.features)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"{twice} would name two columns of the result: rename them in the entity table, "
            "or ask for full feature names"
        )
