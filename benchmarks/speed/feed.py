"""Contest `feed`: what the training feed and Lightning's epoch cost (`training_feed.py` says how it is measured)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.speed.contest import Check, Result, take_turns
from benchmarks.speed.measure import Outcome, Spread, Work

_TASK = "benchmarks.speed.feed:measured"


def run(folder: Path, *, journeys: int, repetitions: int, tell: Callable[[str], None]) -> Result:  # noqa: ARG001
    """Measure in one process, which takes its own turns."""
    costs = take_turns({"feed": (_TASK, {"journeys": journeys, "repetitions": repetitions})}, 1, tell, warm=False)
    found: dict[str, Any] = costs["feed"][0].answer
    checks = [
        Check(what="Parquet to tensors", unit="samples / CPU-s", least=300_000, value=Spread(**found["read"])),
        Check(what="tensors to batches", unit="samples / CPU-s", least=300_000, value=Spread(**found["feed"])),
    ]
    checks += [
        Check(what=f"Lightning's epoch over a bare loop's, {epoch['network']} network", unit="throughput ratio",
              least=0.9, value=Spread(**epoch["wall_share"]))
        for epoch in found["epochs"]
    ]  # fmt: skip
    checks += [
        Check(what=f"a bare loop's CPU over Lightning's, {epoch['network']} network", unit="ratio",
              value=Spread(**epoch["cpu_share"]))
        for epoch in found["epochs"]
    ]  # fmt: skip
    return Result(sizes={"journeys": journeys, "touches": found["touches"]}, checks=tuple(checks), costs=costs)


def measured(journeys: int, repetitions: int) -> Work:
    """The whole of `training_feed.measure`."""
    from benchmarks.speed.training_feed import measure

    def work() -> Callable[[], Outcome]:
        found = measure(journeys=journeys, repetitions=repetitions)
        return lambda: Outcome(rows=found.journeys, answer=asdict(found))

    return work
