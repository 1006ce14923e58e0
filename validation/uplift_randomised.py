"""Cluster effects from the touches whose exposure was drawn at random: unbiased by design, wide, an audit of the keys.

    y_j/ȳ_b = F·η + log(1 + n)·ν + ρ R_j + Σ_k r_k Z_jk + ε,     Z_jk = Σ_{l random} d_l (1[k(l) = k] − p_k)
    u_bk = r_k · ȳ_b · mean decay_b,                              R_j = Σ_{l random} d_l
p_k = share of cluster k in all random touches, the probability with which they were drawn. Given how many of the
journey's touches were random and when (R), Z has mean 0 whatever hidden intent is: r is a Horvitz–Thompson contrast of
Σ_l d_l y_j/p_k(l), adjusted for what precedes the touches, which narrows it. One r for all buckets: a slice of a few
percent is too small to cut. Only contrasts between clusters are identified; a cluster never drawn has their mean.
What it measures is the effect on the people whom chance picked, while intent steers other touches to some people.
Reference: Imbens & Rubin (2015), "Causal inference for statistics, social, and biomedical sciences", ch. 7; Horvitz &
Thompson (1952), J. Am. Stat. Assoc. 47.

Shapes: R replicates, B buckets, K clusters, J journeys, T touches, F basis columns.
"""

from __future__ import annotations

import numpy as np

from validation.buckets import Buckets
from validation.judge_arrays import Exposure, JudgeArrays
from validation.shards import Floats, Replicates, bin_sums, solve_spd, weighted_grams
from validation.uplift import Uplift

LEAST_A_CLUSTER = 10
"""Random touches a cluster, on average, below which there is nothing to see."""


def uplift_randomised(
    data: JudgeArrays, buckets: Buckets, exposure: Exposure, replicates: Replicates, basis_JF: Floats
) -> Uplift | None:
    """Measure u_bk; None where fewer than LEAST_A_CLUSTER touches a cluster were drawn at random."""
    if data.randomised_T is None or data.randomised_T.sum() < LEAST_A_CLUSTER * len(data.cluster_K):
        return None
    drawn_K = bin_sums(data.column_T, data.randomised_T.astype(np.float64), len(data.cluster_K))
    random_JK = data.per_journey_cluster(data.decay_T * data.randomised_T)
    total_J1 = random_JK.sum(axis=1, keepdims=True)
    mean_y_B = np.array([max(data.y_J[buckets.bucket_J == b].mean(), 1e-9) for b in range(buckets.count)])
    centred_JK = random_JK - total_J1 * drawn_K / drawn_K.sum()
    before_J2 = np.stack([np.log1p(data.n_J), data.covered_J - data.covered_J.mean()], axis=1)
    design_Jp = np.concatenate([basis_JF, before_J2, total_J1, centred_JK], axis=1)
    relative_J1 = (data.y_J / mean_y_B[buckets.bucket_J])[:, None]
    gram_Rpp = weighted_grams(np.concatenate([design_Jp, relative_J1], axis=1), data.shard_J, replicates)
    theta_Rp = solve_spd(gram_Rpp[:, :-1, :-1], gram_Rpp[:, :-1, -1:])[..., 0]
    r_RK = _contrasts(theta_Rp[:, -len(drawn_K) :], drawn_K)
    scale_B1 = (mean_y_B * exposure.decay_B)[:, None]
    note = "randomised by design: an audit of the keys, too wide to be one"
    return Uplift(judge="randomised", u_RBK=r_RK[:, None, :] * scale_B1, usable=False, note=note)


def _contrasts(r_RK: Floats, drawn_K: Floats) -> Floats:
    """Less their mean over the random touches; 0 for a cluster without any."""
    mean_R1 = (r_RK @ (drawn_K / drawn_K.sum()))[:, None]
    return np.where(drawn_K > 0, r_RK - mean_R1, 0.0)
