"""Rates over data sets, of one world and size.

    right           pairs that differ by more than MARGIN · A_oracle whose order the protocol's Δ has right; the gate's
                    order is that of t_OBS + t_FD, t = Δ / se
    better          by more than MARGIN · A_oracle, and in no bucket worse by more than the gate's guard tolerates
    promotes worse  challengers truly worse that are promoted: Δ − 1.96 se > 0; for the gate: approved
    refuses better  better challengers that are not promoted
    rejects better  those that are surely refused, Δ + 1.96 se < 0; for the gate: rejected, where a refusal may also be
                    'inconclusive'
    raises a flag   data sets in which a finding of the battery blocks

Pairs of one data set are not independent: intervals are Wilson's at the effective number n / deff, where deff is the
ratio of the rate's variance over data sets to the binomial one, and at the number of data sets where a rate is 0 or 1.
References: Wilson (1927), JASA 22(158); Kish (1965), "Survey sampling", for the design effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from benchmarks.judge.cases import EXPECTED
from validation.gate import GateConfig
from validation.measured import KEYS

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Counts = tuple[float, float]
"""How often, of how many."""

MARGIN = 0.05
GUARD = GateConfig().guard_share
Z95 = 1.96
GATES = {"keys": "two keys", "battery": "two keys and battery"}


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of pairs with its 95% interval; `value` None where nothing was counted."""

    value: float | None
    low: float | None
    high: float | None
    pairs: int

    @property
    def complement(self) -> Rate:
        """The rate of the opposite."""
        value, low, high = (None if part is None else 1 - part for part in (self.value, self.high, self.low))
        return Rate(value=value, low=low, high=high, pairs=self.pairs)


def rate(count_D: Sequence[Counts]) -> Rate:
    """Pooled over data sets D."""
    k_D, n_D = (np.array([counts[which] for counts in count_D], dtype=float) for which in (0, 1))
    total = n_D.sum()
    if total == 0:
        return Rate(value=None, low=None, high=None, pairs=0)
    p, sets = float(k_D.sum() / total), int((n_D > 0).sum())
    effective = float(sets)
    if 0 < p < 1 and sets > 1:
        clustered = float(((k_D - p * n_D) ** 2).sum() / total**2) * sets / (sets - 1)
        effective = min(max(p * (1 - p) / max(clustered, 1e-300), 1.0), float(total))
    interval = binomtest(round(p * effective), max(round(effective), 1)).proportion_ci(method="wilson")
    return Rate(value=p, low=min(float(interval.low), p), high=max(float(interval.high), p), pairs=int(total))


def summarise(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Every rate of one world and size, by protocol."""
    protocols = list(records[0]["protocols"])
    rows = {name: protocol_rates(records, name) for name in protocols}
    rows |= {title: gate_rates(records, which) for which, title in GATES.items()}
    return {
        "data_sets": len(records),
        "journeys": float(np.mean([record["journeys"] for record in records])),
        "protocols": {name: {what: asdict(value) for what, value in rates.items()} for name, rates in rows.items()},
        "cell_correlation": {name: _mean(record["cell_correlation"][name] for record in records) for name in protocols},
        "flagged": asdict(flagged(records)),
        "tests": tests(records),
    }


def flagged(records: Sequence[dict[str, Any]]) -> Rate:
    """Data sets in which a finding blocks."""
    return rate([(float(any(item["blocks"] for item in record["findings"])), 1.0) for record in records])


def protocol_rates(records: Sequence[dict[str, Any]], name: str) -> dict[str, Rate]:
    """Of one protocol; records may be of several worlds."""
    right, worse, better, rejected = [], [], [], []
    for record in records:
        delta_MM, se_MM = (np.array(record["protocols"][name][what]) for what in ("delta", "se"))
        truth_MM, apart_MM, better_MM = _truth(record)
        promoted_MM = delta_MM - Z95 * se_MM > 0
        right.append(_count(delta_MM > 0, apart_MM))
        worse.append(_count(promoted_MM, truth_MM < 0))
        better.append(_count(~promoted_MM, better_MM))
        rejected.append(_count(delta_MM + Z95 * se_MM < 0, better_MM))
    return {
        "right": rate(right), "promotes_worse": rate(worse), "refuses_better": rate(better),
        "rejects_better": rate(rejected),
    }  # fmt: skip


def gate_rates(records: Sequence[dict[str, Any]], which: str) -> dict[str, Rate]:
    """Of the gate by the keys alone or with the battery (GATES); records may be of several worlds."""
    right, worse, better, rejected = [], [], [], []
    for record in records:
        verdict_MM = np.array(record["gate"][which])
        truth_MM, apart_MM, better_MM = _truth(record)
        parts = [record["protocols"][name] for name in KEYS if name in record["protocols"]]
        t_MM = sum(np.array(part["delta"]) / np.maximum(part["se"], 1e-300) for part in parts)
        right.append(_count(np.asarray(t_MM > 0), apart_MM))
        worse.append(_count(verdict_MM == "approved", truth_MM < 0))
        better.append(_count(verdict_MM != "approved", better_MM))
        rejected.append(_count(verdict_MM == "rejected", better_MM))
    return {
        "right": rate(right), "promotes_worse": rate(worse), "refuses_better": rate(better),
        "rejects_better": rate(rejected),
    }  # fmt: skip


def _truth(record: dict[str, Any]) -> tuple[Floats, Bools, Bools]:
    """Of every challenger and champion: the true Δ, whether it is more than the margin, whether that is better."""
    area_MB, share_B, oracle = (np.array(record[name]) for name in ("true_area", "bucket_share", "true_oracle"))
    delta_MMB = area_MB[:, None] - area_MB[None]
    truth_MM = delta_MMB.sum(-1)
    apart_MM = truth_MM > MARGIN * oracle
    harmed_MM = (delta_MMB < -GUARD * oracle * share_B).any(-1)
    return truth_MM, apart_MM, apart_MM & ~harmed_MM


def _count(event_MM: Bools, among_MM: Bools) -> Counts:
    return float((event_MM & among_MM).sum()), float(among_MM.sum())


def tests(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By test: share of data sets in which it fails or warns ('says'), blocks or has no power; its statistic."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        for item in record["findings"]:
            found.setdefault(item["test"], []).append(item)

    def share(items: list[dict[str, Any]], holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return asdict(rate([(float(holds(item)), 1.0) for item in items]))

    return {
        test: {
            "data_sets": len(items),
            "statistic": _quantiles([item["statistic"] for item in items if item["statistic"] is not None]),
            "says": share(items, lambda item: item["verdict"] in ("fail", "warn")),
            "no_power": share(items, lambda item: item["verdict"] == "no power"),
            "blocks": share(items, lambda item: item["blocks"]),
        }
        for test, items in found.items()
    }


def powers(records: Mapping[str, Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """By test of cases.EXPECTED: what it says in the case where it must speak, and in that where it must not."""
    by_case = {name: tests(of) for name, of in records.items()}

    def told(case: str, test: str) -> dict[str, Any]:
        return {"case": case, "test": test, **by_case.get(case, {}).get(test, {})}

    rows = []
    for item in EXPECTED:
        quiet = told(item.quiet, item.quiet_test or item.test)
        rows.append({"test": item.test, "flags": told(item.flags, item.test), "quiet": quiet})
    return rows


def _quantiles(values: list[float]) -> list[float] | None:
    """5%, 50% and 95%."""
    return np.quantile(values, [0.05, 0.5, 0.95]).tolist() if values else None


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
