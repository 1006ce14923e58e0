"""A contest: contestants that do the same work on the same tables, in turns, and what is asked of their costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.speed.measure import Cost, Spread, in_process
from features.errors import AlmMtaError

Costs = Mapping[str, Sequence[Cost]]
"""Contestant -> its cost in every repetition."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One number that a contest yields, and the limit it is held against, if any."""

    what: str
    value: Spread
    unit: str
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the limit; None without one."""
        if self.most is None and self.least is None:
            return None
        above = self.least is None or self.value.median >= self.least
        return above and (self.most is None or self.value.median <= self.most)

    @property
    def limit(self) -> str:
        """The limit in words."""
        bounds = {"at least": self.least, "at most": self.most}
        return " and ".join(f"{word} {bound:,g}" for word, bound in bounds.items() if bound is not None) or "none"

    def as_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        return asdict(self) | {"limit": self.limit, "met": self.met}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a contest found. costs: contestant -> its cost in every repetition."""

    sizes: dict[str, int]
    checks: tuple[Check, ...]
    costs: dict[str, list[Cost]]

    def as_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        costs = {name: [asdict(cost) for cost in taken] for name, taken in self.costs.items()}
        return {"sizes": self.sizes, "checks": [check.as_dict() for check in self.checks], "costs": costs}


def take_turns(
    tasks: Mapping[str, tuple[str, Mapping[str, Any]]],
    repetitions: int,
    tell: Callable[[str], None],
    *,
    warm: bool = True,
) -> dict[str, list[Cost]]:
    """Every contestant's costs; who goes first rotates. tasks: contestant -> task and its arguments.

    warm: each turn follows one of the same contestant that does not count. A virtual machine's host takes back memory
    that lies free, and whoever needs it next waits some 10 µs a page for it: contestants would pay for one another.
    """
    names = list(tasks)
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for repetition in range(repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            tell(f"{name}, {repetition + 1} of {repetitions}")
            if warm:
                in_process(*tasks[name])
            costs[name].append(in_process(*tasks[name]))
    return costs


def agree(costs: Costs, names: Sequence[str]) -> None:
    """Raises AlmMtaError where contestants that should have the same answer do not."""
    answers = {name: costs[name][0].answer for name in names}
    if any(cost.answer != answers[names[0]] for name in names for cost in costs[name]):
        raise AlmMtaError(f"the contestants' answers differ: {answers}")


def ratio(costs: Costs, above: str, below: str) -> Spread:
    """CPU seconds of one contestant over another's, repetition by repetition."""
    pairs = zip(costs[above], costs[below], strict=True)
    return Spread.of([one.cpu_s / other.cpu_s for one, other in pairs])


def peak(costs: Costs, name: str) -> Spread:
    """The contestant's largest resident set, MiB."""
    return Spread.of([cost.peak_mib for cost in costs[name]])
