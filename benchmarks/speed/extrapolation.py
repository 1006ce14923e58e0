"""What a run would cost on many samples, from what its stages cost on the largest logs that were measured.

    core-hours = cpu(n) / n · N / 3600      N touchpoints = samples · touches a sample, n the largest logs' touchpoints
    storage    = bytes(n) / n · N

A sample is a journey; its touchpoints are those of the measured logs. The arithmetic takes N / n shards of users that
cost the same each, what starting a stage costs included: whether more rows in one shard cost more than in proportion
is what the exponents of `stages.py` say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.speed.stages import StageCost


@dataclass(frozen=True, kw_only=True)
class StageAtScale:
    """One stage on N touchpoints."""

    stage: str
    measured_touches: int
    """n."""
    cpu_s: float
    """cpu(n)."""
    core_hours: float
    stored_tb: float
    """Of what the stage leaves, 1e12 bytes; of open_logs, the logs."""
    cost: float
    """core_hours times the price."""


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """A run on `samples` journeys. price: of a core-hour."""

    samples: int
    touches_a_sample: float
    touches: float
    price: float
    stages: tuple[StageAtScale, ...]


def extrapolate(taken: Sequence[StageCost], samples: int, price: float) -> Extrapolation:
    """Every measured stage at scale; touches a sample are the largest logs', 1 where no journeys were built."""
    largest = max(each.touches for each in taken)
    measured = [each for each in taken if each.touches == largest]
    journeys = [each.cost.rows for each in measured if each.stage == "build_journeys"]
    touches_a_sample = largest / journeys[0] if journeys else 1.0
    touches = samples * touches_a_sample
    stages = []
    for each in measured:
        core_hours = each.cost.cpu_s / largest * touches / 3600
        stages.append(
            StageAtScale(
                stage=each.stage, measured_touches=largest, cpu_s=each.cost.cpu_s, core_hours=core_hours,
                stored_tb=each.stored_bytes / largest * touches / 1e12, cost=core_hours * price,
            )
        )  # fmt: skip
    return Extrapolation(
        samples=samples, touches_a_sample=touches_a_sample, touches=touches, price=price, stages=tuple(stages)
    )
