"""Contest `validation`: the data-quality checkpoint of logs in five files, beside one pass over their columns.

`ours`: `validate_logs`, with every rule of the contract, the custom expectations and the Data Docs; `scan`: the least
and the largest value of every column, in DuckDB with the same memory. The logs have been opened before, untimed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.speed.contest import Check, Result, peak, ratio, take_turns
from benchmarks.speed.measure import Outcome, Spread, Work
from benchmarks.speed.tables import open_written, write_logs
from features.duck import quote, session

_TASK = "benchmarks.speed.validation:"


def run(folder: Path, *, rows: int, repetitions: int, tell: Callable[[str], None]) -> Result:
    """Write logs of `rows` touchpoints under `folder` and hold the contest."""
    write_logs(folder / "logs", rows)
    tasks = {side: (_TASK + side, {"folder": folder}) for side in ("ours", "scan")}
    costs = take_turns(tasks, repetitions, tell)
    taken = costs["ours"]
    checks = (
        Check(what="CPU, imports included", unit="s", most=30,
              value=Spread.of([cost.cpu_s + cost.startup_cpu_s for cost in taken])),
        Check(what="CPU", unit="s", value=Spread.of([cost.cpu_s for cost in taken])),
        Check(what="peak memory", unit="MiB", most=1024, value=peak(costs, "ours")),
        Check(what="CPU over one pass's", unit="ratio", value=ratio(costs, "ours", "scan")),
    )  # fmt: skip
    return Result(sizes={"rows": rows}, checks=checks, costs=costs)


def ours(folder: str) -> Work:
    """The checkpoint."""
    import validation.gx_duckdb  # noqa: F401 -- seconds of imports that are not the checkpoint's
    from validation.data_quality import validate_logs

    logs = open_written(Path(folder) / "logs")

    def work() -> Callable[[], Outcome]:
        report = validate_logs(logs, Path(folder) / "quality")
        return lambda: Outcome(rows=sum(logs.rows.values()), answer=[suite.suite for suite in report.suites])

    return work


def scan(folder: str) -> Work:
    """One pass."""
    from validation.gx_duckdb import MEMORY_LIMIT

    logs = open_written(Path(folder) / "logs")

    def work() -> Callable[[], Outcome]:
        with session(memory_limit=MEMORY_LIMIT, scratch=Path(folder)) as connection:
            logs.register(connection)
            for table, columns in logs.columns.items():
                extremes = ", ".join(f"min({quote(c.name)}), max({quote(c.name)})" for c in columns)
                connection.execute(f"SELECT {extremes} FROM {table}").fetchall()
        return lambda: Outcome(rows=sum(logs.rows.values()))

    return work
