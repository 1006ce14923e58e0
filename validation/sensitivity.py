"""Sensitivity: how strong a broken assumption would have to be to overturn what the judges say.

A path that a judge does not see adds ψ_bk to its effects u_bk. What is claimed is linear in u,
    E = Σ_b π_b Σ_k w_bk u_bk g_bk,      g = s_rival − s_candidate (E = Δ)   or   ½ − s_candidate (E = A),
so the smallest ψ that brings E to 0 points along g and has a known size, as has one that points anywhere:
    aligned  SD(ψ) = E / ‖g‖,    ‖g‖² = Σ_b π_b Σ_k w_bk g_bk²
    random   SD(ψ) = E / (1.645 (Σ_k (Σ_b π_b w_bk g_bk)²)^½),    ψ_k ~ Normal: overturns E once in twenty
both in SDs of u over cells (sampling noise taken out). For FD ψ is a direct path T -> Y past the responses; for OBS it
is hidden intent that its negative controls do not show.

A confounder of T and M within journeys biases FD's mediator contrasts. With h the response index and G_l = g of the
touch's cell, both less their journey's mean, and f² = R²/(1 − R²) of h on G, it must explain at least
    RV = ½ (√(f⁴ + 4f²) − f²)
of what is left of both h and G to explain the contrast away; with f·(1 − 1.96/|t|) for f, to leave it insignificant.
Reference: Cinelli & Hazlett (2020), "Making sense of sensitivity", J. R. Stat. Soc. B 82(1).

Shapes: R replicates, B buckets, K clusters, T touches, J journeys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from validation.auuc import Z95, positions
from validation.buckets import Buckets
from validation.judge_arrays import Exposure, JudgeArrays
from validation.shards import Floats, Replicates, bin_sums, shard_sums
from validation.uplift import Uplift, covariance
from validation.uplift_fd import FdUplift

Z_ONE_SIDED = 1.645
THREATS = {
    "FD": "Direct path T -> Y past the responses",
    "OBS": "Hidden intent that the negative controls do not show",
}
SDS = "SDs of the measured effects"
SHARE = "share of what is left of responses and of exposure"


@dataclass(frozen=True, kw_only=True)
class Strength:
    """What it takes to overturn one claim under one judge; strengths are 0 where the judge does not make the claim."""

    judge: str
    threat: str
    claim: str
    estimate: float
    """What the judge says in its favour: Δ, A, or the mediator's slope."""
    unit: str
    """Of the strengths."""
    aligned: float | None
    """Strength, at its most harmful, that brings the estimate to 0; None where effects are all noise."""
    unsure: float | None
    """The same, to bring the lower 95% bound to 0."""
    random: float | None
    """Strength at which a path of random direction does so once in twenty; None for confounders."""
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A direction g in which a judge's effects are read."""

    text: str
    g_BK: Floats


def claims(own_BK: Floats, rival_BK: Floats, rival: str, exposure: Exposure) -> list[Claim]:
    """That the candidate ranks better than its rival, and better than chance."""
    own_s_BK, rival_s_BK = (positions(score_BK, exposure.w_BK) for score_BK in (own_BK, rival_BK))
    return [
        Claim(text=f"Better than {rival}", g_BK=rival_s_BK - own_s_BK),
        Claim(text="Better than a random order", g_BK=0.5 - own_s_BK),
    ]


def hidden_path(uplift: Uplift, claim: Claim, exposure: Exposure, replicates: Replicates) -> Strength:
    """Strengths of a path that this judge does not see, in SDs of its effects."""
    weight_BK = exposure.w_BK * exposure.pi_B[:, None]
    g_BK = claim.g_BK - (exposure.w_BK * claim.g_BK).sum(axis=1, keepdims=True)
    estimate_R = (weight_BK * uplift.u_RBK * g_BK).sum(axis=(1, 2))
    estimate = float(estimate_R[0])
    lower = estimate - Z95 * float(estimate_R[replicates.boot].std(ddof=1))
    sd = math.sqrt(max(float(covariance(uplift.u_RBK, uplift.u_RBK, exposure, replicates)[0]), 0.0))
    norm = math.sqrt(float((weight_BK * g_BK**2).sum()))
    chance = Z_ONE_SIDED * math.sqrt(float(((weight_BK * g_BK).sum(axis=0) ** 2).sum()))
    aligned = _in_sds(estimate, norm, sd)
    reach = "nothing: the effects are all noise" if aligned is None else f"{aligned:.2f} SD of the measured effects"
    return Strength(
        judge=uplift.judge,
        threat=THREATS[uplift.judge],
        claim=claim.text,
        estimate=estimate,
        unit=SDS,
        aligned=aligned,
        unsure=_in_sds(lower, norm, sd),
        random=_in_sds(estimate, chance, sd),
        meaning=f"To overturn the claim it must reach {reach}, pointing against the candidate.",
    )


def _in_sds(amount: float, per_unit: float, sd: float) -> float | None:
    """amount / per_unit in `sd`s; 0 for what is not claimed, None without effects."""
    if amount <= 0 or per_unit <= 0:
        return 0.0
    return amount / (per_unit * sd) if sd > 0 else None


def mediator_confounder(data: JudgeArrays, buckets: Buckets, h_T: Floats, claim: Claim) -> Strength:
    """Robustness value of FD's mediator contrasts in the direction of the claim; `h_T` is FD's response index."""
    g_T = claim.g_BK[buckets.bucket_J[data.journey_T], data.column_T]
    slope, t, f = _within_slope(h_T, g_T, data)
    aligned = robustness_value(f) if slope > 0 else 0.0
    return Strength(
        judge="FD",
        threat="Confounder of exposure and mediator within journeys",
        claim=claim.text,
        estimate=slope,
        unit=SHARE,
        aligned=aligned,
        unsure=robustness_value(f * (1 - Z95 / t)) if t > Z95 else 0.0,
        random=None,
        meaning=f"To overturn the claim it must explain {aligned:.1%} of what journeys leave open of both.",
    )


def _within_slope(h_T: Floats, g_T: Floats, data: JudgeArrays) -> tuple[float, float, float]:
    """Slope of h on g within journeys, its t by shard, and f; all 0 where g does not vary."""
    h_T, g_T = (data.within_journeys(value_T) for value_T in (h_T, g_T))
    gg, hh = float(g_T @ g_T), float(h_T @ h_T)
    if gg <= 0 or hh <= 0:
        return 0.0, 0.0, 0.0
    slope = float(g_T @ h_T) / gg
    left_T = h_T - slope * g_T
    score_J1 = bin_sums(data.journey_T, g_T * left_T, len(data.y_J))[:, None]
    score_S1 = shard_sums(score_J1, data.shard_J, int(data.shard_J.max()) + 1)
    t = slope * gg / max(math.sqrt(float((score_S1**2).sum())), 1e-300)
    return slope, t, math.sqrt(slope**2 * gg / max(float(left_T @ left_T), 1e-300))


def robustness_value(f: float) -> float:
    """RV of a partial Cohen's f: 0 for 0, towards 1 for a perfect fit."""
    return (math.sqrt(f**4 + 4 * f**2) - f**2) / 2


def sensitivity(
    *, data: JudgeArrays, buckets: Buckets, exposure: Exposure, replicates: Replicates, judges: list[Uplift],
    own_BK: Floats, rival_BK: Floats, rival: str,
) -> list[Strength]:  # fmt: skip
    """Both claims under every judge of THREATS that `judges` holds; the mediator's confounder where FD is one."""
    rows = []
    for claim in claims(own_BK, rival_BK, rival, exposure):
        rows += [hidden_path(uplift, claim, exposure, replicates) for uplift in judges if uplift.judge in THREATS]
        rows += [mediator_confounder(data, buckets, fd.index_T, claim) for fd in judges if isinstance(fd, FdUplift)]
    return rows
