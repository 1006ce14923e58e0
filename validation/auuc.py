"""Area under the cumulative gain curve of a ranking of clusters, AUUC.

    A_b = Σ_k w_bk u_bk (½ − s_bk),   A = Σ_b π_b A_b,   normalised = ½ + ½ A / A_oracle   (random ½, oracle 1)
w_bk = exposure share, s_bk = mid-rank position under the ranking (cumulative w before k plus w_bk / 2; ties share one
position), π_b = the bucket's share of touches. A is linear in u and blind to u's level, which is not identified.
A_oracle is cross-fitted: one half of the users ranks, the other scores (in one sample it would be some 15% too large).
A_b is also the area between the bucket's Qini curve and the random ranking's. A cluster without exposure has w = 0 and
moves nothing, a bucket without touches has A_b = 0; where a cell's effect cannot be measured (every journey touched the
cluster, or none did), its judge says which u_bk it gives, 0 in uplift_raw.py.
Reference: Gutierrez & Gérardy (2017), "Causal inference and uplift modelling: a review", for uplift curves.

Shapes: R replicates, B buckets, K clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from validation.judge_arrays import Exposure
from validation.shards import Floats, Replicates
from validation.uplift import Uplift

Z95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class Area:
    """Σ_b π_b A_b and its parts `area_B` (not yet weighted by π), with standard errors; oracles may be ≤ 0."""

    area: float
    se: float
    area_B: Floats
    se_B: Floats
    oracle: float
    oracle_B: Floats

    @property
    def normalised(self) -> float | None:
        """½ + ½ A/A_oracle; None where the judge sees no effect at all."""
        return normalised(self.area, self.oracle)


def normalised(area: float, oracle: float) -> float | None:
    """½ + ½ area/oracle; None for an oracle that is not positive."""
    return 0.5 + 0.5 * area / oracle if oracle > 0 else None


def level_normalised(area: float, level: float) -> float | None:
    """½ sign g + area/|g|, causalml's normalisation by the level g = Σ_b π_b Σ_k w_bk u_bk; None where g = 0.

    For comparison only: logs that were not randomised do not identify g. `uplift_curves.auuc_score` of rows is this,
    as n → ∞, where every cluster has the same share of treated.
    """
    return float(np.sign(level)) / 2 + area / abs(level) if level else None


def positions(score_BK: Floats, w_BK: Floats) -> Floats:
    """s_bk in [0, 1]: 0 is ranked first; equal scores share the middle of their group."""
    s_BK = np.empty_like(w_BK)
    for b, (score_K, w_K) in enumerate(zip(score_BK, w_BK, strict=True)):
        distinct, group_K = np.unique(-score_K, return_inverse=True)
        w_G = np.bincount(group_K, w_K, len(distinct))
        s_BK[b] = (np.cumsum(w_G) - w_G / 2)[group_K]
    return s_BK


def area_per_bucket(u_RBK: Floats, s_BK: Floats, w_BK: Floats) -> Floats:
    """A_b of every replicate, [R, B]."""
    return np.asarray((u_RBK * (w_BK * (0.5 - s_BK))).sum(axis=-1))


def oracle_area(u_BK: Floats, w_BK: Floats) -> Floats:
    """A_b of the ranking by u itself, [B]; of noisy u it is too large."""
    return area_per_bucket(u_BK, positions(u_BK, w_BK), w_BK)


def cross_fitted_oracle(u_RBK: Floats, w_BK: Floats, replicates: Replicates) -> Floats:
    """A_b of the best ranking, ranked on one half of the users and scored on the other, mean over pairs, [B]."""
    first, second = u_RBK[replicates.first], u_RBK[replicates.second]
    scored = [
        area_per_bucket(score_BK, positions(rank_BK, w_BK), w_BK)
        for a_BK, b_BK in zip(first, second, strict=True)
        for rank_BK, score_BK in ((a_BK, b_BK), (b_BK, a_BK))
    ]
    return np.asarray(np.mean(scored, axis=0))


def luck_area(u_BK: Floats, exposure: Exposure, *, seed: int, draws: int = 400) -> float:
    """The A that one in twenty random orders of the clusters exceeds; K clusters are few enough for luck."""
    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(draws):
        score_BK = np.broadcast_to(rng.random(u_BK.shape[1]), u_BK.shape)
        area_B = area_per_bucket(u_BK, positions(score_BK, exposure.w_BK), exposure.w_BK)
        areas.append(float(area_B @ exposure.pi_B))
    return float(np.quantile(areas, 0.95))


def area_of(uplift: Uplift, score_BK: Floats, exposure: Exposure, replicates: Replicates) -> Area:
    """A of one ranking under one judge."""
    area_RB = area_per_bucket(uplift.u_RBK, positions(score_BK, exposure.w_BK), exposure.w_BK)
    oracle_B = cross_fitted_oracle(uplift.u_RBK, exposure.w_BK, replicates)
    total_R = area_RB @ exposure.pi_B
    return Area(
        area=float(total_R[0]),
        se=float(total_R[replicates.boot].std(ddof=1)),
        area_B=area_RB[0],
        se_B=area_RB[replicates.boot].std(axis=0, ddof=1),
        oracle=float(oracle_B @ exposure.pi_B),
        oracle_B=oracle_B,
    )


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Cumulative uplift above the average cluster's, by cumulative share of exposure; its area is A_b."""

    share: Floats
    gain: Floats
    low: Floats | None
    high: Floats | None


def gain_curve(u_RK: Floats, score_K: Floats, w_K: Floats, boot: slice | None) -> Curve:
    """Curve of one bucket; `boot` selects the replicates that make its 95% band."""
    order = np.argsort(-score_K, kind="stable")
    step_RK = (w_K * (u_RK - (u_RK @ w_K)[:, None]))[:, order]
    gain_RK = np.concatenate([np.zeros((len(u_RK), 1)), np.cumsum(step_RK, axis=1)], axis=1)
    share = np.concatenate([[0.0], np.cumsum(w_K[order])])
    if boot is None:
        return Curve(share=share, gain=gain_RK[0], low=None, high=None)
    half = Z95 * gain_RK[boot].std(axis=0, ddof=1)
    return Curve(share=share, gain=gain_RK[0], low=gain_RK[0] - half, high=gain_RK[0] + half)
