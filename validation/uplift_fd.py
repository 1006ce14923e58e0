"""FD: cluster effects through the front door, touch -> response -> upload.

    1. index      h_l = S_l·γ,          γ from logit y ~ F, n, D, Σ_l d_l S_l   (fitted on the other half of users)
    2. outcome    logit y ~ F, n, D, κ Σ_l d_l h_l                               -> slope κ
    3. mediator   h_l = a_bk(l) + journey effect + error, within bucket b       -> contrasts a_bk, shrunk over buckets
    u_bk = κ · a_bk · mean decay_b · mean p(1 − p)_b,     d = exp(−gap / 24 h).
The journey effect removes whatever hidden intent adds to all responses of one journey. FD shares the candidate's
exclusion assumption (touches act through the responses' index only), so it is never the only judge. Per replicate
h is fixed, κ takes one Newton step and stage 3 is solved anew.
Reference: Pearl (1995), Biometrika 82(4); Chernozhukov et al. (2018), Econometrics Journal 21(1), for cross-fitting.

Shapes: R replicates, B buckets, K clusters, J journeys, T touches, r responses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from validation.buckets import Buckets
from validation.judge_arrays import Exposure, JudgeArrays
from validation.logistic import fit_logistic
from validation.shards import Floats, Replicates, bin_sums, shard_sums, solve_spd, weighted_grams, weighted_sums
from validation.uplift import Uplift, shrink


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Stage 2: slope κ per replicate and the sample's p(1 − p) of every journey."""

    slope_R: Floats
    variance_J: Floats


@dataclass(frozen=True, kw_only=True)
class FdUplift(Uplift):
    """The judge, and the index of responses that it reads."""

    index_T: Floats
    """h_l."""


def uplift_fd(
    data: JudgeArrays, buckets: Buckets, exposure: Exposure, replicates: Replicates, basis_JF: Floats
) -> FdUplift | None:
    """Measure u_bk; None where the logs have no responses."""
    if data.response_TR is None:
        return None
    control_Jp = outcome_controls(data, basis_JF)
    h_T = response_index(data, control_Jp)
    outcome = outcome_slope(data, control_Jp, h_T, replicates)
    a_RBK, v_BK = mediator_contrasts(data, buckets, h_T, replicates)
    variance_B = np.array([outcome.variance_J[buckets.bucket_J == b].mean() for b in range(buckets.count)])
    scale_B1 = (exposure.decay_B * variance_B)[:, None]
    u_RBK = outcome.slope_R[:, None, None] * shrink(a_RBK, v_BK) * scale_B1
    return FdUplift(judge="FD", u_RBK=u_RBK, usable=True, note="", index_T=h_T)


def outcome_controls(data: JudgeArrays, basis_JF: Floats) -> Floats:
    """[F, log(1 + n), days covered, D], standardised but for the intercept."""
    extra_JE = np.stack([np.log1p(data.n_J), data.covered_J], axis=1)
    rest_Jp = np.concatenate([basis_JF[:, 1:], extra_JE, data.dose_JK], axis=1)
    sd_p = rest_Jp.std(axis=0)
    standard_Jp = (rest_Jp - rest_Jp.mean(axis=0))[:, sd_p > 1e-9] / sd_p[sd_p > 1e-9]
    return np.concatenate([np.ones((len(rest_Jp), 1)), standard_Jp], axis=1)


def response_index(data: JudgeArrays, control_Jp: Floats) -> Floats:
    """h_l = S_l·γ, each half of the users with γ of the other half, [T]."""
    assert data.response_TR is not None
    J = len(data.y_J)
    pooled_Jr = np.stack([bin_sums(data.journey_T, data.decay_T * s_T, J) for s_T in data.response_TR.T], axis=1)
    design_Jp = np.concatenate([control_Jp, pooled_Jr], axis=1)
    half_J = data.shard_J % 2
    h_T = np.zeros(len(data.journey_T))
    for half in (0, 1):
        rest_J = half_J != half
        gamma_r = fit_logistic(design_Jp[rest_J], data.y_J[rest_J])[control_Jp.shape[1] :]
        held_T = half_J[data.journey_T] == half
        h_T[held_T] = data.response_TR[held_T] @ gamma_r
    return h_T


def outcome_slope(data: JudgeArrays, control_Jp: Floats, h_T: Floats, replicates: Replicates) -> Outcome:
    """κ of y on the decayed sum of the index; replicates by one Newton step from the sample's fit."""
    pooled_J1 = bin_sums(data.journey_T, data.decay_T * h_T, len(data.y_J))[:, None]
    design_Jp = np.concatenate([control_Jp, pooled_J1], axis=1)
    beta_p = fit_logistic(design_Jp, data.y_J)
    p_J = expit(design_Jp @ beta_p)
    variance_J = p_J * (1 - p_J)
    hessian_Rpp = weighted_grams(design_Jp * np.sqrt(variance_J)[:, None], data.shard_J, replicates)
    score_Rp = weighted_sums(design_Jp * (data.y_J - p_J)[:, None], data.shard_J, replicates)
    score_Rp = score_Rp - score_Rp[0]  # the ridge's own gradient, so that row 0 is the fit itself
    step_Rp = solve_spd(hessian_Rpp, score_Rp[..., None])[..., 0]
    return Outcome(slope_R=beta_p[-1] + step_Rp[:, -1], variance_J=variance_J)


def mediator_contrasts(
    data: JudgeArrays, buckets: Buckets, h_T: Floats, replicates: Replicates
) -> tuple[Floats, Floats]:
    """a_bk of h on clusters with journey effects, centred on the bucket's touches, [R, B, K]; variance [B, K].

    Within-journey Gram matrix without expanding touches: Σ_j diag(c_j) − c_j c_jᵀ / L_j, c_j = touches per cluster.
    """
    count_JK = data.per_journey_cluster(np.ones(len(h_T)))
    index_JK = data.per_journey_cluster(h_T)
    root_J1 = np.sqrt(np.maximum(count_JK.sum(axis=1), 1.0))[:, None]
    mean_JK1 = np.concatenate([count_JK, index_JK.sum(axis=1, keepdims=True)], axis=1) / root_J1
    a_RBK, v_BK = [], []
    for b in range(buckets.count):
        rows = buckets.bucket_J == b
        shard_J = data.shard_J[rows]
        K = count_JK.shape[1]
        between = weighted_grams(mean_JK1[rows], shard_J, replicates)
        sums = weighted_sums(np.concatenate([count_JK[rows], index_JK[rows]], axis=1), shard_J, replicates)
        gram_RKK = sums[:, :K, None] * np.eye(K) - between[:, :K, :K]
        gram_RKK = gram_RKK + sums[:, :K].mean(axis=1)[:, None, None] / K  # fixes the free level
        cross_RK = sums[:, K:] - between[:, :K, K]
        a_RK = solve_spd(gram_RKK, cross_RK[..., None])[..., 0]
        w_K = sums[0, :K] / max(sums[0, :K].sum(), 1.0)
        a_RBK.append(a_RK - (a_RK @ w_K)[:, None])
        fitted_JK = count_JK[rows] * a_RK[0]
        level_J1 = (index_JK[rows] - fitted_JK).sum(axis=1, keepdims=True) / root_J1[rows] ** 2
        score_SK = shard_sums(index_JK[rows] - fitted_JK - count_JK[rows] * level_J1, shard_J, replicates.shards)
        v_BK.append((solve_spd(gram_RKK[0], score_SK.T) ** 2).sum(axis=1))
    return np.stack(a_RBK, axis=1), np.stack(v_BK)
