"""Records of all seeds -> means, paired differences, and where a peer wins or ties.

    d_s = figure of OURS − figure of the peer on seed s;    mean ± t(.975, n−1) · sd(d) / √n

A peer loses where that interval is above zero, wins where it is below, and ties otherwise; with one seed the sign
decides. The gain over the best back-door peer takes, in each bucket, the one with the highest mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import t as student

from benchmarks.accuracy.unit import ORACLE, Record
from benchmarks.methods.interface import Method

OURS = "alm-mta"
CORRELATION = "correlation"
BUCKET = "auuc_bucket_"
BACK_DOOR = "back-door"

Seeds = Mapping[int, Record]
Cells = Mapping[tuple[str, str], Seeds]
"""(world, method or ORACLE) -> seed -> record."""
Outcome = Literal["loses", "ties", "wins"]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and standard deviation (None of one seed) over the seeds that have the figure."""

    mean: float
    sd: float | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Ours minus a peer's, over the seeds that both have; low and high are None with one seed."""

    mean: float
    low: float | None
    high: float | None

    @property
    def outcome(self) -> Outcome:
        """What the peer does."""
        low, high = (self.mean if end is None else end for end in (self.low, self.high))
        return "loses" if low > 0 else "wins" if high < 0 else "ties"


def figures_of(seeds: Seeds, name: str) -> dict[int, float]:
    """seed -> the figure, where it is defined."""
    return {seed: record["figures"][name] for seed, record in seeds.items() if name in record.get("figures", {})}


def spreads(seeds: Seeds) -> dict[str, Spread]:
    """Every figure that some seed has."""
    names = sorted({name for record in seeds.values() for name in record.get("figures", {})})
    values = {name: list(figures_of(seeds, name).values()) for name in names}
    return {
        name: Spread(mean=float(np.mean(v)), sd=float(np.std(v, ddof=1)) if len(v) > 1 else None)
        for name, v in values.items()
    }


def paired_difference(ours: Seeds, peer: Seeds, name: str) -> Difference | None:
    """The mean difference with its 95% interval; None where no seed has both."""
    a, b = figures_of(ours, name), figures_of(peer, name)
    d = np.array([a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())])
    if len(d) == 0:
        return None
    mean = float(d.mean())
    if len(d) == 1:
        return Difference(mean=mean, low=None, high=None)
    half = float(student.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d)))
    return Difference(mean=mean, low=mean - half, high=mean + half)


def summarise(cells: Cells, worlds: Sequence[str], methods: Mapping[str, Method]) -> dict[str, Any]:
    """results, paired, back_door_gain and verdicts, fit for JSON."""
    rows = [(world, name) for world in worlds for name in (*methods, ORACLE)]
    return {
        "results": [_result(world, name, cells[world, name]) for world, name in rows],
        "holds": {world: _holds(cells[world, ORACLE]) for world in worlds},
        "paired": [pair for world in worlds for pair in _paired(world, cells, methods)],
        "back_door_gain": [gain for world in worlds for gain in _gains(world, cells, methods)],
        "verdicts": {world: verdict(world, cells, methods) for world in worlds} if OURS in methods else {},
    }


def _result(world: str, method: str, seeds: Seeds) -> dict[str, Any]:
    found = spreads(seeds)
    return {
        "world": world,
        "method": method,
        "mean": {name: _short(spread.mean) for name, spread in found.items()},
        "sd": {name: _short(spread.sd) for name, spread in found.items() if spread.sd is not None},
        "failed": {str(seed): record["failed"] for seed, record in seeds.items() if "failed" in record},
    }


def _holds(seeds: Seeds) -> dict[str, float]:
    """What a unit of the world holds, on average."""
    held = [record["holds"] for record in seeds.values() if "holds" in record]
    return {name: _short(float(np.mean([h[name] for h in held]))) for name in (held[0] if held else {})}


def _buckets(seeds: Seeds) -> list[str]:
    return [name for name in spreads(seeds) if name.startswith(BUCKET)]


def _peers(methods: Mapping[str, Method]) -> list[str]:
    return [name for name, method in methods.items() if method.family != "ours"]


def _compared(world: str, cells: Cells) -> list[str]:
    return [CORRELATION, *_buckets(cells[world, OURS])]


def _paired(world: str, cells: Cells, methods: Mapping[str, Method]) -> list[dict[str, Any]]:
    if OURS not in methods:
        return []
    return [
        {"world": world, "peer": peer, "figure": name, **_shorts(difference)}
        for peer in _peers(methods)
        for name in _compared(world, cells)
        if (difference := paired_difference(cells[world, OURS], cells[world, peer], name))
    ]


def _gains(world: str, cells: Cells, methods: Mapping[str, Method]) -> list[dict[str, Any]]:
    """Per bucket, ours minus the best back-door peer's AUUC."""
    rivals = [name for name, method in methods.items() if method.family == BACK_DOOR]
    if OURS not in methods:
        return []
    gains = []
    for name in _buckets(cells[world, OURS]):
        mean = {
            peer: float(np.mean(list(v.values()))) for peer in rivals if (v := figures_of(cells[world, peer], name))
        }
        if not mean:
            continue
        best = max(mean, key=lambda peer: (mean[peer], peer))
        difference = paired_difference(cells[world, OURS], cells[world, best], name)
        if difference:
            gains.append({"world": world, "figure": name, "peer": best, **_shorts(difference)})
    return gains


def verdict(world: str, cells: Cells, methods: Mapping[str, Method]) -> dict[str, Any]:
    """{peer: {figure: wins or ties}} of every peer that does, and a sentence on the world."""
    found: dict[str, dict[str, Outcome]] = {}
    for peer in _peers(methods):
        for name in _compared(world, cells):
            difference = paired_difference(cells[world, OURS], cells[world, peer], name)
            if difference and difference.outcome != "loses":
                found.setdefault(peer, {})[name] = difference.outcome
    return {"not_beaten": found, "sentence": _sentence(world, found, cells)}


def _sentence(world: str, found: Mapping[str, Mapping[str, Outcome]], cells: Cells) -> str:
    ours = spreads(cells[world, OURS])
    if CORRELATION not in ours:
        return f"{world}: content has no effect here, so there is nothing to rank."
    if not found:
        return f"{world}: no peer wins or ties."
    said = []
    for peer, outcomes in found.items():
        buckets = {how: [n for n, o in outcomes.items() if n != CORRELATION and o == how] for how in ("wins", "ties")}
        parts = [f"{how} on AUUC in {_number(names)}" for how, names in buckets.items() if names]
        if CORRELATION in outcomes:
            theirs = spreads(cells[world, peer])[CORRELATION].mean
            numbers = f"{theirs:.3f} against {ours[CORRELATION].mean:.3f}"
            parts.insert(0, f"{outcomes[CORRELATION]} on correlation ({numbers})")
        said.append(f"{peer} {' and '.join(parts)}")
    return f"{world}: {'; '.join(said)}."


def _number(names: Sequence[str]) -> str:
    which = ", ".join(name.removeprefix(BUCKET) for name in names)
    return f"bucket{'s' if len(names) > 1 else ''} {which}"


def _shorts(difference: Difference) -> dict[str, Any]:
    return {name: None if value is None else _short(value) for name, value in asdict(difference).items()}


def _short(value: float) -> float:
    """Five significant digits: what is checked in should not say more than it knows."""
    return float(f"{value:.5g}")
