"""A small confounded world as arrays, for the judge's own tests: no files, one journey a user.

exposure ∝ exp(x·A_k + λ W κ_k), corr(κ, β) = affinity_corr;  logit y = b + γ Σ d m + ρ W + x·δ;
n ~ Poisson(exp(.7 W + x·δₙ));  post-horizon touches from the same exposure;  responses are noisy m + (ω + ω_k) W.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from validation.judge_arrays import DECAY_HOURS, SHARDS, JudgeArrays, LaterTouches


@dataclass(frozen=True, kw_only=True)
class ConfoundedWorld:
    data: JudgeArrays
    truth_T: np.ndarray
    w_J: np.ndarray


def confounded_world(
    journeys: int,
    seed: int,
    *,
    effect: float = 1.0,
    rho: float = 1.5,
    affinity_corr: float = -0.6,
    n_intent: float = 0.7,
    clusters: int = 40,
    touches: int = 12,
    profiles: int = 3,
    contamination: float = 0.0,
    cluster_contamination: float = 0.0,
) -> ConfoundedWorld:
    """`contamination` is ω, `cluster_contamination` the spread of ω_k over clusters."""
    rng = np.random.default_rng(seed)
    J, K, L, P = journeys, clusters, touches, profiles
    beta_K = rng.exponential(0.15, K)
    standard_K = (beta_K - beta_K.mean()) / beta_K.std()
    kappa_K = affinity_corr * standard_K + np.sqrt(1 - affinity_corr**2) * rng.standard_normal(K)
    A_PK, G_PK = 0.3 * rng.standard_normal((P, K)), 0.2 * rng.standard_normal((P, K))
    x_JP, w_J = rng.standard_normal((J, P)), rng.standard_normal(J)
    score_JK = x_JP @ A_PK + 0.8 * w_J[:, None] * kappa_K
    cumulative_JK = np.cumsum(np.exp(score_JK), axis=1)
    cumulative_JK /= cumulative_JK[:, -1:]

    def draw(count: int) -> np.ndarray:
        return (rng.random((J, count, 1)) > cumulative_JK[:, None, :]).sum(axis=2)

    cluster_JL, post_JL = draw(L), draw(10)
    gap_JL = np.sort(rng.exponential(20.0, (J, L)), axis=1)[:, ::-1]
    decay_JL = np.exp(-gap_JL / DECAY_HOURS)
    mean_JL = np.take_along_axis(beta_K * np.exp(x_JP @ G_PK), cluster_JL, axis=1)
    m_JL = mean_JL + 0.35 * rng.standard_normal((J, L))
    base_J = -3.2 - effect * 0.5 + 0.3 * x_JP.sum(axis=1)
    y_J = rng.random(J) < expit(base_J + effect * (decay_JL * m_JL).sum(axis=1) + rho * w_J)
    n_J = rng.poisson(np.exp(n_intent * w_J + 0.2 * x_JP[:, :1].sum(axis=1)))
    node_Q, weight_Q = np.polynomial.hermite_e.hermegauss(9)
    total_J = effect * (decay_JL * mean_JL).sum(axis=1)
    truth_JL = sum(
        weight
        / weight_Q.sum()
        * (
            expit((base_J + total_J + rho * z)[:, None])
            - expit((base_J + total_J + rho * z)[:, None] - effect * decay_JL * mean_JL)
        )
        for z, weight in zip(node_Q, weight_Q, strict=True)
    )
    loading_K = contamination + cluster_contamination * np.random.default_rng([seed, 1]).standard_normal(K)

    def respond(m: np.ndarray, cluster: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        watch = 1.5 * m + loading_K[cluster] * w_J[:, None] + 0.5 * draws.standard_normal(m.shape)
        liked = (draws.random(m.shape) < expit(-2 + 2 * m)).astype(float)
        both_TR = np.stack([watch.ravel(), liked.ravel()], axis=1)
        return both_TR - both_TR.mean(axis=0)

    response_TR = respond(m_JL, cluster_JL, rng)
    later = np.random.default_rng([seed, 2])
    later_m_JL = np.take_along_axis(beta_K * np.exp(x_JP @ G_PK), post_JL, axis=1)
    later_m_JL = later_m_JL + 0.35 * later.standard_normal(post_JL.shape)
    journey_T, column_T = np.repeat(np.arange(J), L), cluster_JL.ravel()
    data = JudgeArrays(
        shard_J=rng.integers(0, SHARDS, J),
        y_J=y_J.astype(float),
        n_J=n_J.astype(float),
        covered_J=np.full(J, 28.0),
        x_JP=x_JP,
        cluster_K=np.arange(K),
        dose_JK=np.bincount(journey_T * K + column_T, decay_JL.ravel(), J * K).reshape(J, K),
        post_JK=np.bincount(np.repeat(np.arange(J), 10) * K + post_JL.ravel(), minlength=J * K)
        .reshape(J, K)
        .astype(float),
        journey_T=journey_T,
        column_T=column_T,
        decay_T=decay_JL.ravel(),
        response_TR=response_TR,
        response_names=("watch_ratio", "liked"),
        later=LaterTouches(
            journey_N=np.repeat(np.arange(J), 10),
            column_N=post_JL.ravel(),
            response_NR=respond(later_m_JL, post_JL, later),
        ),
    )
    return ConfoundedWorld(data=data, truth_T=truth_JL.ravel(), w_J=w_J)
