"""The join against a brute-force reading of its definition, on adversarial tables.

Ties with and without created timestamps, times on either side of a boundary by a microsecond, nulls wherever a column
can have them, zones, up to three views of different keys, and names that clash with each other or with the query's own.
Where rows share keys, timestamp and created, the definition leaves open which one counts: the oracle takes any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.asof_join import ViewJoin, asof_query
from features.duck import session
from features.errors import ConfigError

Row = dict[str, Any]
T0 = datetime(2024, 3, 31, 1, tzinfo=UTC)  # the hour in which Berlin's clocks change
TICK = timedelta(microseconds=1)
ZONES = (None, "UTC", "Europe/Berlin", "America/New_York")
NAMES = ("v", "V", "t", "at", "seen", "entity", "k0", "f0", "e0", "v0", "user", 'a"b', "ü", "event_timestamp_2")
CREATED = (  # the column, hide_later_created, whether created_until is given
    (None, False, False),
    (None, True, True),
    ("created", False, False),
    ("created", False, True),
    ("created", True, False),
    ("created", True, False),
    ("created", True, True),
)
KEYS = ((), ("user",), ("user",), ("item",), ("user", "item"), ("item", "user"))

moments = st.builds(
    lambda hours, ticks: T0 + timedelta(hours=hours) + ticks * TICK, st.integers(0, 2), st.sampled_from([0, 0, -1, 1])
)
maybe_moments = st.one_of(moments, moments, moments, st.none())
ids = st.sampled_from([0, 0, 0, 0, 1, 1, None])


def tables_of(row: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[Row]]:
    """Mostly enough rows for ties and near misses, sometimes hardly any."""
    rows = st.fixed_dictionaries(row)
    return st.one_of(*[st.lists(rows, min_size=8, max_size=14)] * 3, st.lists(rows, max_size=2))


ttls = st.sampled_from([None, timedelta(0), TICK, timedelta(hours=1), timedelta(hours=2)])


@dataclass(frozen=True, kw_only=True)
class View:
    """A view and the rows of its source: columns key_0, ..., ts, created, value and row, its number."""

    join: ViewJoin
    rows: list[Row]
    zones: tuple[str | None, str | None]

    def table(self) -> pa.Table:
        keys = [(f"key_{k}", pa.int64()) for k in range(len(self.join.keys))]
        stamps = [(name, pa.timestamp("us", zone)) for name, zone in zip(("ts", "created"), self.zones, strict=True)]
        return pa.Table.from_pylist(self.rows, pa.schema([*keys, *stamps, ("value", pa.int64()), ("row", pa.int64())]))


@st.composite
def views(draw: st.DrawFn) -> View:
    keys = draw(st.sampled_from(KEYS))
    row = {f"key_{k}": ids for k in range(len(keys))} | {"ts": maybe_moments, "created": maybe_moments}
    rows = draw(tables_of({**row, "value": st.none() | st.integers(0, 9)}))
    created, hide_later, until = draw(st.sampled_from(CREATED))
    join = ViewJoin(
        files="",
        keys={key: f"key_{k}" for k, key in enumerate(keys)},
        features={draw(st.sampled_from(NAMES)): "value", draw(st.integers(0, 10**6).map("x{}".format)): "row"},
        timestamp="ts",
        created=created,
        ttl=draw(ttls),
        hide_later_created=hide_later,
        created_until=draw(moments) if until else None,
    )
    numbered = [{**row, "row": number} for number, row in enumerate(rows)]
    return View(join=join, rows=numbered, zones=draw(st.tuples(*[st.sampled_from(ZONES)] * 2)))


entities = tables_of({"user": ids, "item": ids, "event_timestamp": maybe_moments})


def admissible(entity: Row, view: View) -> set[tuple[Any, Any]]:
    """The values of a view's features that are right for an entity row, by the definition."""
    join, now = view.join, entity["event_timestamp"]
    seen = []
    for row in view.rows:
        same = all(row[source] is not None and row[source] == entity[key] for key, source in join.keys.items())
        if not same or now is None or row["ts"] is None or row["ts"] > now:
            continue
        if join.created and join.hide_later_created and (row["created"] is None or row["created"] > now):
            continue
        if join.created and join.created_until and (row["created"] is None or row["created"] > join.created_until):
            continue
        seen.append(row)

    def rank(row: Row) -> tuple[datetime, datetime]:
        return row["ts"], (join.created and row["created"]) or datetime.min.replace(tzinfo=UTC)

    best = [row for row in seen if rank(row) == max(map(rank, seen))]
    if not best or (join.ttl and now > best[0]["ts"] + join.ttl):
        return {(None, None)}
    return {(row["value"], row["row"]) for row in best}


def check(connection: duckdb.DuckDBPyConnection, rows: list[Row], zone: str | None, joined: Sequence[View]) -> None:
    schema = pa.schema([("id", pa.int64()), ("user", pa.int64()), ("item", pa.int64())])
    schema = schema.append(pa.field("event_timestamp", pa.timestamp("us", zone)))
    entity = pa.Table.from_pylist([{"id": n, **row} for n, row in enumerate(rows)], schema)
    connection.register("entity", entity)
    for i, view in enumerate(joined):
        connection.register(f"view_{i}", view.table())
    names = Counter(name.casefold() for name in (*schema.names, *(n for v in joined for n in v.join.features)))
    if max(names.values()) > 1:
        with pytest.raises(ConfigError, match="would name two columns"):
            asof_query([view.join for view in joined], schema.names)
        return
    got = connection.sql(asof_query([view.join for view in joined], schema.names)).to_arrow_table().to_pylist()
    assert sorted(row["id"] for row in got) == list(range(len(rows)))
    for row in got:
        asked = rows[row["id"]]
        assert (row["user"], row["item"]) == (asked["user"], asked["item"])
        for view in joined:
            values = tuple(row[name] for name in view.join.features)
            assert values in admissible(asked, view), (view.join, row)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with session(threads=2) as opened:
        yield opened


tables = given(rows=entities, zone=st.sampled_from(ZONES), joined=st.lists(views(), min_size=1, max_size=3))
lasting = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=lasting)
@tables
def test_agrees_with_brute_force(
    connection: duckdb.DuckDBPyConnection, rows: list[Row], zone: str | None, joined: list[View]
) -> None:
    check(connection, rows, zone, joined)


@pytest.mark.slow
@settings(max_examples=1_000, deadline=None, suppress_health_check=lasting)
@tables
def test_agrees_with_brute_force_a_thousand_times(
    connection: duckdb.DuckDBPyConnection, rows: list[Row], zone: str | None, joined: list[View]
) -> None:
    check(connection, rows, zone, joined)
