"""Drift: have the inputs moved since the champion was fitted?

    PSI = Σ_bins (p − q) log(p / q),      p = share at the champion's training, q = share in these logs' fit split
Both are histograms on the champion's bins, which `attribute` writes to credits/summary.json.
Reference: Yurdakul & Naranjo (2020), "Statistical properties of the population stability index", J. Risk Model
Validation 14(4): under no drift PSI is about χ²_{bins−1} · (1/N + 1/M).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2

from validation.falsification.base import FalsificationConfig, Finding, Ruling

GROUPS = {
    "clusters": "What is shown",
    "responses": "How users respond",
    "profile": "Who the users are",
}


def drift(snapshots: Mapping[str, Any], config: FalsificationConfig) -> list[Finding]:
    """The largest PSI of each group of inputs; `snapshots` holds 'champion' and 'logs', or nothing."""
    if not snapshots:
        return []
    then, now = snapshots["champion"], snapshots["logs"]
    return [
        _finding(group, then[group], now[group], min(then["journeys"], now["journeys"]), config)
        for group in GROUPS
        if then[group]
    ]


def psi(then_count: Sequence[float], now_count: Sequence[float]) -> float:
    """Population stability index of two histograms over the same bins; half a count stands for an empty bin."""
    p, q = (np.maximum(np.asarray(count, dtype=np.float64), 0.5) for count in (then_count, now_count))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


def _finding(
    group: str, then: Mapping[str, Any], now: Mapping[str, Any], journeys: int, config: FalsificationConfig
) -> Finding:
    """Noise is reckoned by journeys, since touches of one journey are no independent draws."""
    values = {name: psi(then[name], now[name]) for name in then}
    worst = max(values, key=lambda name: values[name])
    noise = float(chi2.ppf(0.95, max(len(then[worst]) - 1, 1))) * 2 / max(journeys, 1)
    verdict: Ruling = "no power" if noise > config.drift_psi else "warn" if values[worst] > config.drift_psi else "pass"
    return Finding(
        test=f"drift, {group}",
        statistic=values[worst],
        threshold=config.drift_psi,
        verdict=verdict,
        meaning=f"{GROUPS[group]}, now against the champion's training: population stability index of {worst}"
        + ("." if len(values) == 1 else ", the largest."),
        action="The champion scores what it has not seen: retrain soon, and read the comparison with care."
        if verdict == "warn"
        else "none",
    )
