"""The gate: measured keys and blocking findings -> approved, rejected or inconclusive. A pure function.

    approved iff  (OBS lower 95% > 0 and FD point > 0) or (FD lower 95% > 0 and OBS point > 0)
             and  in neither judge a bucket with Δ_b + 2.33 se_b < −.02 A_oracle π_b,
Δ = Σ_b π_b Σ_k w u (s_champion − s_challenger), the difference in un-normalised AUUC. No single judge survives every
broken assumption; two do. Without a champion the last-touch ranking stands in, and the challenger's own area must be
above 0 (random order) by the same rule and above what one in twenty random orders of the clusters reaches: with few
clusters and narrow intervals a random order is often surely, and uselessly, better than last touch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from features.errors import ConfigError

Verdict = Literal["approved", "rejected", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Thresholds of the gate."""

    confidence_z: float = 1.96
    """Standard errors of the two-sided 95% intervals."""
    guard_z: float = 2.33
    """Standard errors by which a bucket must be worse to count as harmed (one-sided 99%)."""
    guard_share: float = 0.02
    """Harm to a bucket that is tolerated, as a share of its part of A_oracle."""
    power_z: float = 0.84
    """Added to `confidence_z` for the number of journeys that would decide (power 80%)."""

    def __post_init__(self) -> None:
        if min(self.confidence_z, self.guard_z, self.guard_share, self.power_z) <= 0:
            raise ConfigError(f"judge.gate: every threshold must be positive, not {asdict(self)}")


@dataclass(frozen=True, kw_only=True)
class Key:
    """One judge's verdict on challenger against champion; all areas un-normalised."""

    judge: str
    """OBS or FD."""
    usable: bool
    """Whether the judge may decide."""
    note: str
    """Why not, in a sentence."""
    delta: float
    """Δ, positive where the challenger ranks better."""
    se: float
    """Its standard error."""
    delta_b: tuple[float, ...]
    """Δ_b = π_b Σ_k w u (s_champion − s_challenger) of each bucket."""
    se_b: tuple[float, ...]
    """Their standard errors."""
    share_b: tuple[float, ...]
    """π_b, the buckets' shares of touches."""
    area: float
    """A of the challenger."""
    area_se: float
    """Its standard error."""
    oracle: float
    """Cross-fitted A_oracle."""
    luck: float
    """The A that one in twenty random orders of the clusters exceeds."""


@dataclass(frozen=True, kw_only=True)
class Blocking:
    """A finding that forbids approval whatever the keys say."""

    reason: str
    """One line."""
    verdict: Verdict = "rejected"
    """'inconclusive' where more data could mend it."""
    journeys_needed: int | None = None
    """How much more."""

    def __post_init__(self) -> None:
        if self.verdict == "approved":
            raise ConfigError(f"a blocking finding cannot approve: {self.reason}")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The gate's verdict; `reasons` are one line each, the first says it all."""

    verdict: Verdict
    reasons: tuple[str, ...]
    metrics: dict[str, float] = field(default_factory=dict)
    journeys_needed: int | None = None


def decide(
    keys: Sequence[Key],
    *,
    blocking: Sequence[Blocking] = (),
    champion: str | None,
    journeys: int,
    config: GateConfig | None = None,
) -> Decision:
    """Apply the rule above; `champion` None means that last touch stands in, `journeys` are the judge's."""
    config = config or GateConfig()
    if blocking:
        return _blocked(blocking)
    rival = rival_name(champion)
    usable = [key for key in keys if key.usable]
    unusable = tuple(f"{key.judge} is no key: {key.note}" for key in keys if not key.usable)
    if not usable:
        return Decision(verdict="inconclusive", reasons=("no judge can be trusted on these logs", *unusable))
    against = _reasons_against(usable, rival, champion, config)
    if against:
        return Decision(verdict="rejected", reasons=(*against, *unusable))
    summary = tuple(_shown(key, config) for key in usable)
    if _two_keys_turn(usable, champion, config):
        return Decision(verdict="approved", reasons=(f"better than {rival} by both judges", *summary))
    needed = journeys_needed(usable, champion, journeys, config)
    reason = _why_undecided(usable, rival, champion, journeys, needed, config)
    return Decision(verdict="inconclusive", reasons=(reason, *summary, *unusable), journeys_needed=needed)


def rival_name(champion: str | None) -> str:
    """Whom the challenger is held against, in words."""
    return champion or "last touch"


def _reasons_against(keys: Sequence[Key], rival: str, champion: str | None, config: GateConfig) -> list[str]:
    """What speaks surely against the challenger; both judges pointing down counts as sure."""
    if all(key.oracle <= 0 for key in keys):
        return ["no effect: content clusters do not differ in what they cause"]
    reasons = [f"worse than {rival}: {_shown(key, config)}" for key in keys if _upper(key.delta, key.se, config) < 0]
    if champion is None:
        reasons += [
            f"no better than a random order of clusters: {_shown_area(key, config)}"
            for key in keys
            if _upper(key.area, key.area_se, config) < key.luck
        ]
    reasons += [reason for key in keys for reason in _harmed_buckets(key, rival, config)]
    if not reasons and len(keys) > 1 and all(key.delta <= 0 for key in keys):
        return [f"not better than {rival} by either judge", *(_shown(key, config) for key in keys)]
    return reasons


def _why_undecided(
    keys: Sequence[Key], rival: str, champion: str | None, journeys: int, needed: int | None, config: GateConfig
) -> str:
    if len(keys) == 1:
        return f"only {keys[0].judge} can judge these logs, and one key is not enough"
    if any(_sure(key, champion, config) for key in keys):
        opinions = [f"{key.judge} says {'better' if key.delta > 0 else 'not better'}" for key in keys]
        return f"the judges disagree on {rival}: {', '.join(opinions)}"
    lucky = champion is None and any(key.area <= key.luck for key in keys)
    more = f"; about {needed:,} judge journeys would decide, here {journeys:,}" if needed else ""
    return f"not surely better than {'a random order of clusters' if lucky else rival}{more}"


def _blocked(blocking: Sequence[Blocking]) -> Decision:
    """A rejection outranks what more data could mend."""
    ordered = sorted(blocking, key=lambda finding: finding.verdict != "rejected")
    needed = [finding.journeys_needed for finding in ordered if finding.journeys_needed is not None]
    return Decision(
        verdict=ordered[0].verdict,
        reasons=tuple(finding.reason for finding in ordered),
        journeys_needed=max(needed, default=None),
    )


def _two_keys_turn(keys: Sequence[Key], champion: str | None, config: GateConfig) -> bool:
    return any(
        _sure(key, champion, config) and all(_points_up(other, champion) for other in keys if other is not key)
        for key in keys
        if len(keys) > 1
    )


def _sure(key: Key, champion: str | None, config: GateConfig) -> bool:
    above_random = champion is not None or (_lower(key.area, key.area_se, config) > 0 and key.area > key.luck)
    return _lower(key.delta, key.se, config) > 0 and above_random


def _points_up(key: Key, champion: str | None) -> bool:
    return key.delta > 0 and (champion is not None or key.area > 0)


def _harmed_buckets(key: Key, rival: str, config: GateConfig) -> list[str]:
    return [
        f"bucket {b} is worse off than under {rival} by {key.judge}"
        for b, (delta, se, share) in enumerate(zip(key.delta_b, key.se_b, key.share_b, strict=True))
        if delta + config.guard_z * se < -config.guard_share * max(key.oracle, 0.0) * share
    ]


def journeys_needed(
    keys: Sequence[Key], champion: str | None, journeys: int, config: GateConfig | None = None
) -> int | None:
    """Judge journeys at which the surest key would have power 80%; None where no key points up or more do not help."""
    config = config or GateConfig()
    wanted_z = config.confidence_z + config.power_z
    ratios = []
    for key in keys:
        pairs = [(key.delta, key.se)] + ([] if champion is not None else [(key.area, key.area_se)])
        above_luck = champion is not None or key.area > key.luck
        if above_luck and all(point > 0 for point, _ in pairs):
            ratios.append(max((wanted_z * se / point) ** 2 for point, se in pairs))
    needed = math.ceil(journeys * min(ratios)) if ratios else 0
    return needed if needed > journeys else None


def _lower(point: float, se: float, config: GateConfig) -> float:
    return point - config.confidence_z * se


def _upper(point: float, se: float, config: GateConfig) -> float:
    return point + config.confidence_z * se


def _shown(key: Key, config: GateConfig) -> str:
    low, high = _lower(key.delta, key.se, config), _upper(key.delta, key.se, config)
    return f"{key.judge}: {key.delta:+.2e} uploads a touch [{low:+.2e}, {high:+.2e}]"


def _shown_area(key: Key, config: GateConfig) -> str:
    high = _upper(key.area, key.area_se, config)
    return f"{key.judge} area {key.area:+.2e}, at most {high:+.2e}; luck reaches {key.luck:+.2e}"


def to_record(keys: Sequence[Key], blocking: Sequence[Blocking], config: GateConfig) -> dict[str, Any]:
    """What `replay` needs, as JSON."""
    return {
        "keys": [
            {**asdict(key), "low": _lower(key.delta, key.se, config), "high": _upper(key.delta, key.se, config)}
            for key in keys
        ],
        "blocking": [asdict(finding) for finding in blocking],
        "thresholds": asdict(config),
    }


def replay(gate: dict[str, Any], config: GateConfig | None = None) -> Decision:
    """Decide again from the `gate` section of evaluation.json, with other thresholds if given."""
    names = Key.__dataclass_fields__
    keys = [Key(**{name: _tupled(row[name]) for name in names}) for row in gate["keys"]]
    return decide(
        keys,
        blocking=[Blocking(**finding) for finding in gate["blocking"]],
        champion=None if gate["champion"] == "last_touch" else gate["champion"],
        journeys=gate["journeys"],
        config=config or GateConfig(**gate["thresholds"]),
    )


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
