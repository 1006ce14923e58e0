"""Contest `journeys`: building journeys beside reading and sorting the same touchpoints in DuckDB.

`sort` keeps the sorted table in DuckDB and writes nothing, in about three times the memory of ours; `sort, in little
memory` is held to about as much as ours takes, and spills; `sort and write` writes Parquet, which journeys must have.
Memory is measured at a tenth of the rows too, since it should not grow with them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed.contest import Check, Result, peak, ratio, take_turns
from benchmarks.speed.measure import Outcome, Spread, Work
from benchmarks.speed.tables import open_written, write_logs
from features.duck import MEMORY_LIMIT, session, write_parquet

_TASK = "benchmarks.speed.journeys:"
LITTLE = "250MB"
"""DuckDB's limit; its process then takes about 100 MB more."""
_SORTED = "SELECT * FROM touchpoints ORDER BY user_id, ts, item_id"

_SORTS: dict[str, dict[str, Any]] = {
    "sort": {"write": False, "memory_limit": MEMORY_LIMIT},
    "sort, in little memory": {"write": False, "memory_limit": LITTLE},
    "sort and write": {"write": True, "memory_limit": MEMORY_LIMIT},
}


def run(folder: Path, *, rows: int, repetitions: int, tell: Callable[[str], None]) -> Result:
    """Write logs of `rows` touchpoints, and of a tenth of them, under `folder` and hold the contest."""
    tasks: dict[str, tuple[str, dict[str, Any]]] = {}
    for share, name in ((1, ""), (10, ", a tenth of the rows")):
        place = folder / f"tenth-{share}"
        write_logs(place / "logs", rows // share)
        tasks[f"ours{name}"] = (_TASK + "ours", {"folder": place})
    for name, values in _SORTS.items():
        tasks[name] = (_TASK + "sort", {"folder": folder / "tenth-1"} | values)
    costs = take_turns(tasks, repetitions, tell)
    pairs = zip(costs["ours"], costs["ours, a tenth of the rows"], strict=True)
    growth = [big.peak_mib / small.peak_mib for big, small in pairs]
    checks = (
        Check(what="CPU over reading and sorting", unit="ratio", most=1.5, value=ratio(costs, "ours", "sort")),
        Check(what="CPU over reading and sorting in little memory", unit="ratio", most=1.5,
              value=ratio(costs, "ours", "sort, in little memory")),
        Check(what="CPU over reading, sorting and writing", unit="ratio", value=ratio(costs, "ours", "sort and write")),
        Check(what="peak memory over that of a tenth of the rows", unit="ratio", least=0.8, most=1.2,
              value=Spread.of(growth)),
        Check(what="peak memory", unit="MiB", value=peak(costs, "ours")),
        Check(what="peak memory of the sort in little", unit="MiB", value=peak(costs, "sort, in little memory")),
    )  # fmt: skip
    return Result(sizes={"rows": rows}, checks=checks, costs=costs)


def ours(folder: str) -> Work:
    """`build_journeys` with the default configuration."""
    import pandas  # noqa: F401 -- imported by the first `to_numpy` of an Arrow column

    from features.files import read_json
    from features.journeys import JourneyConfig, build_journeys

    logs, out = open_written(Path(folder) / "logs"), Path(folder) / "journeys"
    shutil.rmtree(out, ignore_errors=True)  # a build that is there is not repeated

    def work() -> Callable[[], Outcome]:
        build_journeys(logs, JourneyConfig(), out)
        return lambda: Outcome(rows=read_json(out / "manifest.json")["journeys"])

    return work


def sort(folder: str, write: bool, memory_limit: str) -> Work:
    """All columns of the touchpoints, in the journeys' order."""
    logs, out = open_written(Path(folder) / "logs"), Path(folder) / "sorted.parquet"

    def work() -> Callable[[], Outcome]:
        with session(memory_limit=memory_limit, scratch=Path(folder)) as connection:
            logs.register(connection)
            if write:
                write_parquet(connection, _SORTED, out)
            else:
                connection.execute(f"CREATE TEMP TABLE sorted AS {_SORTED}")
        return lambda: Outcome(rows=logs.rows["touchpoints"])

    return work
