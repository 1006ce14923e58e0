"""What a response says that its touch's content does not: residuals on cluster x profile, with or without journeys.

    value_l = F_j(l)·b_k(l) [+ μ_j(l)] + ε_l,        F = basis of the profile, k = cluster, μ = effect of the journey
With μ the fit is by alternating projections: touches of one journey lie in many clusters, so a few sweeps suffice
(eight gave the same four digits as four). Reference: Guimarães & Portugal (2010), Stata Journal 10(4).

Shapes: T touches, J journeys, K clusters, F basis columns.
"""

from __future__ import annotations

import numpy as np

from validation.judge_arrays import JudgeArrays
from validation.shards import Floats, Ints, solve_spd

_SWEEPS = 4


def content_residual(value_T: Floats, column_T: Ints, journey_T: Ints, basis_JF: Floats) -> Floats:
    """ε without journey effects, [T]."""
    return _without_content(value_T, _by_cluster(column_T, journey_T, basis_JF))


def within_residual(value_T: Floats, data: JudgeArrays, basis_JF: Floats) -> Floats:
    """ε with journey effects, [T]: sums to 0 in every journey."""
    clusters = _by_cluster(data.column_T, data.journey_T, basis_JF)
    for _ in range(_SWEEPS):
        value_T = data.within_journeys(_without_content(value_T, clusters))
    return value_T


Cluster = tuple[Ints, Floats, Floats]
"""A cluster's touches [N], their basis [N, F] and its Gram matrix [F, F]."""


def _by_cluster(column_T: Ints, journey_T: Ints, basis_JF: Floats) -> list[Cluster]:
    clusters = []
    for k in np.unique(column_T):
        row_N = np.flatnonzero(column_T == k)
        basis_NF = basis_JF[journey_T[row_N]]
        clusters.append((row_N, basis_NF, basis_NF.T @ basis_NF))
    return clusters


def _without_content(value_T: Floats, clusters: list[Cluster]) -> Floats:
    left_T = value_T.copy()
    for row_N, basis_NF, gram_FF in clusters:
        b_F1 = solve_spd(gram_FF, (basis_NF.T @ value_T[row_N])[:, None])
        left_T[row_N] -= (basis_NF @ b_F1)[:, 0]
    return left_T
