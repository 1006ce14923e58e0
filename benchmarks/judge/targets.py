"""What is asked of the judge: rates over data sets of one size, pooled over worlds or in each, against their limits.

    ranks right       pairs more than MARGIN · A_oracle apart in their true order, where all that is assumed holds
    rejects better    better challengers rejected there
    passes            data sets there in which no finding blocks
    promotes worse    worse challengers promoted, where one assumption is violated
    flags             data sets in which a finding blocks, where a violation is one that must block

A limit holds where the rate keeps it; its interval says how surely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.judge.summary import GATES, Rate, flagged, gate_rates, protocol_rates

Records = Sequence[dict[str, Any]]

VALID = ("logit", "saturating", "same-direction", "variable-length")
"""Confounded, and all that the judges assume holds."""
VIOLATED = ("contaminated", "noisy-control", "direct-path", "feedback", "leaky-response")
"""One assumption each."""
BLOCKED = ("direct-path", "feedback", "leaky-response")
"""Those that the battery must block."""
TWICE = "direct-path-and-feedback"


@dataclass(frozen=True, kw_only=True)
class Target:
    """`worlds` are pooled; `least` or `most` bounds the rate, neither where it is only reported."""

    what: str
    worlds: tuple[str, ...]
    by: str
    rate: Callable[[Records], Rate]
    least: float | None = None
    most: float | None = None


def targets() -> list[Target]:
    """In the report's order."""
    found = []
    for which, title in GATES.items():
        found += [
            Target(what="ranks right", worlds=VALID, by=title, rate=_gate(which, "right"), least=0.95),
            Target(what="rejects better", worlds=VALID, by=title, rate=_gate(which, "rejects_better"), most=0.10),
            *(
                Target(what="promotes worse", worlds=(world,), by=title, rate=_gate(which, "promotes_worse"), most=0.01)
                for world in VIOLATED
            ),
            Target(what="promotes worse", worlds=(TWICE,), by=title, rate=_gate(which, "promotes_worse")),
        ]
    found += [
        Target(what="ranks right", worlds=VALID, by="raw", rate=_protocol("raw", "right")),
        Target(what="rejects better", worlds=VALID, by="raw", rate=_protocol("raw", "rejects_better")),
        Target(what="promotes worse", worlds=VALID, by="raw", rate=_protocol("raw", "promotes_worse")),
        *(
            Target(what="flags", worlds=(world,), by="battery", rate=flagged, least=0.95)
            for world in (*BLOCKED, TWICE)
        ),
        *(Target(what="passes", worlds=(world,), by="battery", rate=_passes, least=0.95) for world in VALID),
    ]  # fmt: skip
    return found


def against_targets(records: Mapping[str, Records]) -> list[dict[str, Any]]:
    """Every target whose worlds are all there, fit for JSON; `holds` is None where there is no limit."""
    rows = []
    for target in targets():
        if not all(world in records for world in target.worlds):
            continue
        rate = target.rate([record for world in target.worlds for record in records[world]])
        rows.append(
            {
                "what": target.what, "worlds": list(target.worlds), "by": target.by, "rate": asdict(rate),
                "least": target.least, "most": target.most, "holds": _holds(rate.value, target),
            }
        )  # fmt: skip
    return rows


def _holds(value: float | None, target: Target) -> bool | None:
    if value is None or (target.least is None and target.most is None):
        return None
    return (target.least is None or value >= target.least) and (target.most is None or value <= target.most)


def _gate(which: str, rate: str) -> Callable[[Records], Rate]:
    return lambda records: gate_rates(records, which)[rate]


def _protocol(name: str, rate: str) -> Callable[[Records], Rate]:
    return lambda records: protocol_rates(records, name)[rate]


def _passes(records: Records) -> Rate:
    return flagged(records).complement
