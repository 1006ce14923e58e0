"""The point-in-time join as one DuckDB query: an ASOF join per feature view.

For entity row e and view v, with the same keys:

    f(e) = features of the row of v with the greatest (t, created) among those that e sees,
           null where it sees none, or where e.event_timestamp > t + ttl      (ttl 0: never expires)

e sees the rows with t ≤ e.event_timestamp; with `hide_later_created` only those of them with created ≤
e.event_timestamp too, since a value written afterwards was not known then. Every entity row comes back exactly once.
Timestamps without a zone are UTC, and count in microseconds; a null key or timestamp matches nothing. Where rows
share keys, t and created, any one of them counts.

An ASOF join takes the greatest of one column a view, `seen`, that is not above the entity's:

    t                 where v has no created column (write each key and t once)
    t 2⁶⁴ + created   as one 128-bit integer: created breaks ties of t, without a second sort
    max(t, created)   with hide_later_created: the moment a row is seen from. Rows that are below another one, by
                      (t, created), as soon as they are seen never count, so the running maximum over that moment stays
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from features.duck import quote
from features.errors import ConfigError

EVENT_TIMESTAMP = "event_timestamp"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICKS = 2**64
_LATEST = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class ViewJoin:
    """What one feature view contributes to the join.

    files: Parquet path or glob. keys: entity column -> source column. features: output -> source column.
    timestamp, created: source columns; created may be absent. ttl: None or 0 never expires.
    hide_later_created: values created after the entity's timestamp are not seen; without a created column all are.
    created_until: values created later are not seen, whatever the entity's timestamp; None: no such bound.
    """

    files: str
    keys: Mapping[str, str]
    features: Mapping[str, str]
    timestamp: str
    created: str | None
    ttl: timedelta | None
    hide_later_created: bool = False
    created_until: datetime | None = None


def asof_query(views: Sequence[ViewJoin], entity_columns: Sequence[str]) -> str:
    """The SQL over the views `entity` and `view_0`, `view_1`, ...; ConfigError on colliding names."""
    _refuse_bad_columns(views, entity_columns)
    # Inside the query every column has a name of its own, so that none can clash with a user's.
    inner = {name: f"entity.e{i}" for i, name in enumerate(entity_columns)}
    outputs = [f"{column} AS {quote(name)}" for name, column in inner.items()]
    joins = []
    for i, view in enumerate(views):
        alive = f"entity.at <= v{i}.t + {_microseconds(view.ttl)}" if view.ttl else "true"
        outputs += [f"CASE WHEN {alive} THEN v{i}.f{f} END AS {quote(name)}" for f, name in enumerate(view.features)]
        bound = "entity.at_last" if _breaks_ties(view) else "entity.at"
        on = [f"{inner[key]} = v{i}.k{k}" for k, key in enumerate(view.keys)]
        joins.append(
            f"ASOF LEFT JOIN ({_source_sql(view, i)}) AS v{i} ON {' AND '.join([*on, f'{bound} >= v{i}.seen'])}"
        )
    columns = ", ".join(f"{quote(name)} AS e{i}" for i, name in enumerate(entity_columns))
    at = f"epoch_us({quote(EVENT_TIMESTAMP)})"
    entity = f"SELECT {columns}, {at} AS at, {_ranked(at, str(_LATEST))} AS at_last FROM entity"
    return f"SELECT {', '.join(outputs)} FROM ({entity}) AS entity {' '.join(joins)}"


@dataclass(frozen=True, kw_only=True)
class RangeScan:
    """A stretch of one source: columns as the source names them; latest_only keeps one row a key.

    created_until: values created later are left out; None: none is.
    """

    files: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    timestamp: str
    created: str | None
    latest_only: bool
    created_until: datetime | None = None


def range_query(scan: RangeScan) -> str:
    """The SQL over the view `source`, with the parameters $start and $end (`epoch_us`), both inclusive."""
    stamps = [scan.timestamp, *([scan.created] if scan.created else [])]
    columns = ", ".join(map(quote, (*scan.keys, *scan.columns, *stamps)))
    moment = f"epoch_us({quote(scan.timestamp)})"
    known = _known_by(scan.created, scan.created_until)
    sql = f"SELECT {columns} FROM source WHERE {moment} BETWEEN $start AND $end AND {known}"
    if not scan.latest_only:
        return f"{sql} ORDER BY {moment}"
    newest = ", ".join(f"epoch_us({quote(stamp)}) DESC NULLS LAST" for stamp in stamps)
    partition = f"PARTITION BY {', '.join(map(quote, scan.keys))}" if scan.keys else ""
    return f"{sql} QUALIFY row_number() OVER ({partition} ORDER BY {newest}) = 1"


def epoch_us(moment: datetime) -> int:
    """Microseconds since 1970; a moment without a zone is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def _source_sql(view: ViewJoin, index: int) -> str:
    """k0, ... keys, t, `seen` and f0, ... features of one view."""
    keys = [f"{quote(column)} AS k{k}" for k, column in enumerate(view.keys.values())]
    features = [f"{quote(column)} AS f{f}" for f, column in enumerate(view.features.values())]
    t, where, qualify = f"epoch_us({quote(view.timestamp)})", _known_by(view.created, view.created_until), ""
    if view.created is None:
        seen = t
    elif _breaks_ties(view):
        seen = _ranked(t, f"coalesce(epoch_us({quote(view.created)}), {-_LATEST})")
    else:
        created = f"epoch_us({quote(view.created)})"
        seen, rank = f"greatest({t}, {created})", _ranked(t, created)
        partition = f"PARTITION BY {', '.join(map(quote, view.keys.values()))}" if view.keys else ""
        qualify = f"QUALIFY {rank} = max({rank}) OVER ({partition} ORDER BY {seen})"
    columns = ", ".join([*keys, f"{t} AS t", f"{seen} AS seen", *features])
    return f"SELECT {columns} FROM view_{index} WHERE {where} {qualify}"


def _breaks_ties(view: ViewJoin) -> bool:
    return view.created is not None and not view.hide_later_created


def _ranked(t: str, created: str) -> str:
    """(t, created) as one integer, in their order: an ASOF join compares a single column."""
    return f"(CAST({t} AS HUGEINT) * {_TICKS} + {created})"


def _known_by(created: str | None, until: datetime | None) -> str:
    return f"epoch_us({quote(created)}) <= {epoch_us(until)}" if created and until else "true"


def _microseconds(ttl: timedelta) -> int:
    return ttl // timedelta(microseconds=1)


def _refuse_bad_columns(views: Sequence[ViewJoin], entity_columns: Sequence[str]) -> None:
    needed = dict.fromkeys([EVENT_TIMESTAMP, *(key for view in views for key in view.keys)])
    lacking = [name for name in needed if name not in entity_columns]
    if lacking:
        raise ConfigError(f"the entity table lacks {lacking}; it has {list(entity_columns)}")
    names = [*entity_columns, *(name for view in views for name in view.features)]
    # DuckDB's names differ in more than case.
    counted = Counter(name.casefold() for name in names)
    twice = sorted({name for name in names if counted[name.casefold()] > 1})
    if twice:
        raise ConfigError(
            f"{twice} would name two columns of the result: rename them in the entity table, "
            "or ask for full feature names"
        )
