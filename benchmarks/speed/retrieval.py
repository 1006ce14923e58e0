"""Contest `retrieval`: Feast's point-in-time retrieval through our store, beside a plain DuckDB ASOF join.

Both read the same entity table and the same view, and write the same Parquet. `deduplicated`: a view whose keys and
timestamps occur once; `ties`: one in ten rows was written again an hour later, which the plain join, knowing no
`created`, cannot tell apart; `cut-off`: the same, without what was created after the entity's timestamp.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.speed.contest import Check, Costs, Result, agree, peak, ratio, take_turns
from benchmarks.speed.measure import Outcome, Spread, Work
from features.duck import fetch_one, parquet_sql, session, write_parquet
from features.errors import AlmMtaError

MEMORY_LIMIT = "2GiB"
ROWS_A_KEY, FEATURES = 100, 4
_TASK = "benchmarks.speed.retrieval:"
_START_S, _SPAN_S = 1_704_067_200, 60 * 86_400
_VIEW = """
SELECT key_id, make_timestamp(seconds * 1000000) AS event_timestamp,
       make_timestamp((seconds + 3600 * copy) * 1000000) AS created, {features}
FROM (
    SELECT i, copy, i // {rows_a_key} AS key_id,
           {start} + (i % {rows_a_key}) * {step} + CAST(hash(i * 100) % {step} AS BIGINT) AS seconds
    FROM range({rows}) r(i), (VALUES (0), (1)) c(copy) WHERE copy = 0 OR ({ties} AND i % 10 = 0)
)
ORDER BY key_id, event_timestamp
"""
_ENTITY = """
SELECT i AS entity_row, CAST(hash(i * 100 + 1) % {keys} AS BIGINT) AS key_id,
       make_timestamp(({start} + CAST(hash(i * 100 + 2) % {span} AS BIGINT)) * 1000000) AS event_timestamp
FROM range({entities}) r(i)
"""


def run(folder: Path, *, entities: int, rows: int, repetitions: int, tell: Callable[[str], None]) -> Result:
    """Write the tables under `folder` and hold the contest."""
    write_tables(folder, entities, rows)
    tasks: dict[str, tuple[str, dict[str, Any]]] = {
        f"{side}, {table}": (_TASK + side, {"folder": folder, "table": table})
        for table in ("deduplicated", "ties")
        for side in ("ours", "plain")
    }
    tasks["ours, cut-off"] = (_TASK + "ours", {"folder": folder, "table": "ties", "cut_off": True})
    costs = take_turns(tasks, repetitions, tell)
    agree(costs, ("ours, deduplicated", "plain, deduplicated"))
    checks = [
        Check(what="every entity row once", unit="rows / entity rows", least=1, most=1,
              value=_once(costs, entities)),
        Check(what="CPU over the plain join's, deduplicated", unit="ratio", most=1.3,
              value=ratio(costs, "ours, deduplicated", "plain, deduplicated")),
        Check(what="CPU over the plain join's, with created tie-break", unit="ratio", most=2,
              value=ratio(costs, "ours, ties", "plain, ties")),
        Check(what="CPU over the plain join's, with created cut-off", unit="ratio",
              value=ratio(costs, "ours, cut-off", "plain, ties")),
    ]  # fmt: skip
    checks += [
        Check(what=f"peak memory, {name}", unit="MiB", value=peak(costs, name), most=3 * 1024)
        for name in costs if name.startswith("ours")
    ]  # fmt: skip
    return Result(sizes={"entities": entities, "rows": rows}, checks=tuple(checks), costs=costs)


def write_tables(folder: Path, entities: int, rows: int) -> None:
    """entity.parquet, and deduplicated.parquet and ties.parquet: `rows` rows, or a tenth more, by key and time."""
    keys = max(rows // ROWS_A_KEY, 1)
    values = {"rows": rows, "rows_a_key": ROWS_A_KEY, "start": _START_S, "step": _SPAN_S // ROWS_A_KEY}
    drawn = ", ".join(f"hash((2 * i + copy) * 100 + {10 + f}) / 1.8e19 AS f{f}" for f in range(FEATURES))
    with session(scratch=folder) as connection:
        for name in ("deduplicated", "ties"):
            query = _VIEW.format(**values, features=drawn, ties=str(name == "ties").lower())
            write_parquet(connection, query, folder / f"{name}.parquet")
        query = _ENTITY.format(keys=keys, start=_START_S, span=_SPAN_S, entities=entities)
        write_parquet(connection, query, folder / "entity.parquet")


def plain(folder: str, table: str) -> Work:
    """The ASOF join as DuckDB's manual has it."""
    out = Path(folder) / "plain.parquet"
    columns = ", ".join(f"v.f{f}" for f in range(FEATURES))
    query = (
        f"SELECT e.*, {columns} FROM {parquet_sql(Path(folder) / 'entity.parquet')} e "
        f"ASOF LEFT JOIN {parquet_sql(Path(folder) / f'{table}.parquet')} v "
        "ON e.key_id = v.key_id AND e.event_timestamp >= v.event_timestamp"
    )

    def work() -> Callable[[], Outcome]:
        with session(memory_limit=MEMORY_LIMIT, scratch=Path(folder)) as connection:
            write_parquet(connection, query, out)
        return lambda: _outcome(out)

    return work


def ours(folder: str, table: str, cut_off: bool = False) -> Work:
    """`get_historical_features(...).persist(...)` of a Feast store that names our class."""
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    store = _store(Path(folder), table, has_created=table == "ties")
    out = Path(folder) / "ours.parquet"
    features = [f"view:f{f}" for f in range(FEATURES)]
    entity = f"SELECT * FROM {parquet_sql(Path(folder) / 'entity.parquet')}"

    def work() -> Callable[[], Outcome]:
        job = store.get_historical_features(entity, features, filter_by_created_timestamp=cut_off)
        job.persist(SavedDatasetFileStorage(path=str(out)), allow_overwrite=True)
        return lambda: _outcome(out)

    return work


def _store(folder: Path, table: str, *, has_created: bool) -> Any:
    """A store with the view over one table, its registry in a folder of its own."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64, Int64

    place = Path(tempfile.mkdtemp(prefix="store-", dir=folder))
    config = RepoConfig(
        project="speed", provider="local", repo_path=place, registry=str(place / "registry.db"),
        offline_store={
            "type": "features.asof_store.AsofOfflineStore", "memory_limit": MEMORY_LIMIT, "temp_directory": str(place),
        },
        online_store={"type": "sqlite", "path": str(place / "online.db")}, entity_key_serialization_version=3,
    )  # fmt: skip
    key = Entity(name="key", join_keys=["key_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="view", entities=[key], ttl=timedelta(0),
        schema=[Field(name="key_id", dtype=Int64), *(Field(name=f"f{f}", dtype=Float64) for f in range(FEATURES))],
        source=FileSource(
            name="source", path=str(folder.resolve() / f"{table}.parquet"), timestamp_field="event_timestamp",
            created_timestamp_column="created" if has_created else "",
        ),
    )  # fmt: skip
    store = FeatureStore(config=config)
    with redirect_stdout(io.StringIO()):
        store.apply([key, view])
    return store


def _outcome(file: Path) -> Outcome:
    """Rows; as answer how many entity rows they are of, and a hash of them all in whatever order."""
    with session() as connection:
        counts = "count(*), count(DISTINCT entity_row), CAST(bit_xor(hash(t)) AS VARCHAR)"
        rows, distinct, digest = fetch_one(connection, f"SELECT {counts} FROM {parquet_sql(file)} t")
    if rows != distinct:
        raise AlmMtaError(f"{rows} rows for {distinct} entity rows in {file}")
    return Outcome(rows=rows, answer=[distinct, digest])


def _once(costs: Costs, entities: int) -> Spread:
    return Spread.of([cost.rows / entities for name in costs for cost in costs[name]])
