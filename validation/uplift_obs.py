"""OBS: cluster effects from observed confounders and two negative controls.

In bucket b, with F = [1, x, x² − 1], doses D and post-horizon counts N₂ (which can cause neither y nor n):
    y/ȳ = F·η + D·θʸ + N₂·φʸ + ε,      ñ = F·η' + D·θⁿ + N₂·φⁿ + ε',      ñ = log(1 + n) / mean log(1 + n)
What N₂ predicts is hidden intent, in the same direction for y and n, so
    α = argmin Σ_b (φʸ − αφⁿ)ᵀ V(α)⁻¹ (φʸ − αφⁿ),     V(α) = Cov(φʸ − αφⁿ), full,
    r = θʸ − αθⁿ, shrunk over buckets,                 u_bk = r̃_bk · ȳ_b · mean decay_b.
Only contrasts between clusters are identified, not the level. α = 0 (plain DML, fooled by hidden intent) where n
says nothing about N₂: then OBS is no key. The logarithm tames n's exponential dependence on intent: φʸ and φⁿ are
then nearer to parallel, which the objective at its minimum shows without any truth.
References: Miao, Geng & Tchetgen Tchetgen (2018), Biometrika 105(4), negative controls; Anderson & Rubin (1949),
Ann. Math. Stat. 20(1), for the objective; Liang & Zeger (1986), Biometrika 73(1), for V (clustered by shard).

Shapes: R replicates, B buckets, K clusters, Q = K − 1 columns of N₂, J journeys, S shards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from validation.buckets import Buckets
from validation.judge_arrays import Exposure, JudgeArrays
from validation.shards import Floats, Replicates, shard_sums, solve_spd, wald, weighted_grams
from validation.uplift import Uplift, shrink

RELEVANCE_WALD = 3.0
REFERENCE_JOURNEYS = 200_000
"""Sample size at which the battery's thresholds were measured."""
_ANGLES = 121


@dataclass(frozen=True, kw_only=True)
class BucketFit:
    """One bucket's regression: θ, φ per replicate for (y, n), and the sample's influence of each shard."""

    theta_RK2: Floats
    phi_RQ2: Floats
    theta_influence_SK2: Floats
    phi_influence_SQ2: Floats
    mean_y: float


@dataclass(frozen=True, kw_only=True)
class Obs:
    """The judge, and what the falsification battery reads: `alpha_R` and Wald statistics per degree of freedom."""

    uplift: Uplift
    alpha_R: Floats
    relevance: float
    relevance_threshold: float
    post_window: float
    df: int


def uplift_obs(
    data: JudgeArrays, buckets: Buckets, exposure: Exposure, replicates: Replicates, basis_JF: Floats
) -> Obs:
    """Measure u_bk; no key without post-horizon counts or where n is irrelevant to them."""
    if data.n_J.var() == 0 or data.post_JK is None or data.post_JK.sum() == 0:
        missing = "no uploads before the window" if data.n_J.var() == 0 else "no touches after the horizon"
        return unadjusted(data, buckets, exposure, replicates, basis_JF, f"{missing}: hidden intent unadjusted")
    fits = [fit_bucket(data, buckets.bucket_J == b, replicates, basis_JF) for b in range(buckets.count)]
    relevance, df = _wald_per_df([(fit.phi_RQ2[0, :, 1], fit.phi_influence_SQ2[:, :, 1]) for fit in fits])
    threshold = relevance_threshold(len(data.y_J), df)
    relevant = relevance >= threshold
    alpha_R, objective = estimate_alpha(fits) if relevant else (np.zeros(len(replicates.weight_RS)), np.nan)
    note = (
        ""
        if relevant
        else f"uploads before the window do not reveal intent (Wald/df {relevance:.2f} < {threshold:.2f})"
    )
    return Obs(
        uplift=_uplift(fits, alpha_R, exposure, usable=relevant, note=note),
        alpha_R=alpha_R,
        relevance=relevance,
        relevance_threshold=threshold,
        post_window=objective / max(df - 1, 1),
        df=df,
    )


def relevance_threshold(journeys: int, df: int) -> float:
    """Wald/df − 1 grows with the sample, so its threshold does; never under what noise reaches once in 1000."""
    scaled = 1 + (RELEVANCE_WALD - 1) * journeys / REFERENCE_JOURNEYS
    return float(max(scaled, chi2.ppf(0.999, df) / df))


def fit_bucket(
    data: JudgeArrays, rows: np.ndarray[tuple[int], np.dtype[np.bool_]], replicates: Replicates, basis_JF: Floats
) -> BucketFit:
    """Joint least squares of y/ȳ and ñ on (F, D, N₂) of the bucket's journeys."""
    y_J, n_J, shard_J = data.y_J[rows], np.log1p(data.n_J[rows]), data.shard_J[rows]
    mean_y, mean_n = max(float(y_J.mean()), 1e-9), max(float(n_J.mean()), 1e-9)
    outcome_J2 = np.stack([y_J / mean_y, n_J / mean_n], axis=1)
    dose_JK = data.dose_JK[rows]
    parts = [_controls(basis_JF[rows], data.covered_J[rows]), dose_JK]
    if data.post_JK is not None:
        parts.append(data.post_JK[rows][:, :-1])
    design_Jp = np.concatenate(parts, axis=1)
    p, first, K = design_Jp.shape[1], parts[0].shape[1], dose_JK.shape[1]
    gram_Rpp = weighted_grams(np.concatenate([design_Jp, outcome_J2], axis=1), shard_J, replicates)
    theta_Rp2 = solve_spd(gram_Rpp[:, :p, :p], gram_Rpp[:, :p, p:])
    residual_J2 = outcome_J2 - design_Jp @ theta_Rp2[0]
    score_Sp2 = np.stack(
        [shard_sums(design_Jp * e_J[:, None], shard_J, replicates.shards) for e_J in residual_J2.T], axis=2
    )
    influence_pS2 = solve_spd(gram_Rpp[0, :p, :p], score_Sp2.transpose(1, 0, 2).reshape(p, -1))
    influence_Sp2 = influence_pS2.reshape(p, -1, 2).transpose(1, 0, 2)
    theta, phi = slice(first, first + K), slice(first + K, p)
    return BucketFit(
        theta_RK2=theta_Rp2[:, theta],
        phi_RQ2=theta_Rp2[:, phi],
        theta_influence_SK2=influence_Sp2[:, theta],
        phi_influence_SQ2=influence_Sp2[:, phi],
        mean_y=mean_y,
    )


def _controls(basis_JF: Floats, covered_J: Floats) -> Floats:
    """F, and the days that the logs cover of n's window where they differ: they scale n, not intent."""
    if covered_J.std() < 1e-9:
        return basis_JF
    return np.concatenate([basis_JF, ((covered_J - covered_J.mean()) / covered_J.std())[:, None]], axis=1)


def estimate_alpha(fits: list[BucketFit]) -> tuple[Floats, float]:
    """α per replicate, and the sample's objective at its minimum.

    The objective depends only on the direction (cos t, sin t) of (φʸ, φⁿ), so t is searched on a grid over the
    half circle, which is free of scale, and refined by a parabola.
    """
    unit = np.sqrt(
        sum((fit.phi_influence_SQ2[:, :, 0] ** 2).sum() for fit in fits)
        / sum((fit.phi_influence_SQ2[:, :, 1] ** 2).sum() for fit in fits)
    )
    angle_A = np.linspace(-np.pi / 2, np.pi / 2, _ANGLES)[1:-1]
    objective_AR = np.stack([_objective(fits, np.cos(t), unit * np.sin(t)) for t in angle_A])
    best_R = np.clip(objective_AR.argmin(axis=0), 1, len(angle_A) - 2)
    column_R = np.arange(objective_AR.shape[1])
    left, middle, right = (objective_AR[best_R + d, column_R] for d in (-1, 0, 1))
    curvature = left - 2 * middle + right
    offset_R = np.where(curvature > 0, 0.5 * (left - right) / np.where(curvature > 0, curvature, 1.0), 0.0)
    step = angle_A[1] - angle_A[0]
    alpha_R = unit * np.tan(angle_A[best_R] + step * np.clip(offset_R, -1, 1))
    return alpha_R, float(objective_AR[:, 0].min())


def _objective(fits: list[BucketFit], on_y: float, on_n: float) -> Floats:
    total_R = np.zeros(len(fits[0].phi_RQ2))
    for fit in fits:
        contrast_RQ = on_y * fit.phi_RQ2[:, :, 0] - on_n * fit.phi_RQ2[:, :, 1]
        influence_SQ = on_y * fit.phi_influence_SQ2[:, :, 0] - on_n * fit.phi_influence_SQ2[:, :, 1]
        total_R += wald(contrast_RQ, influence_SQ)
    return total_R


def _wald_per_df(terms: list[tuple[Floats, Floats]]) -> tuple[float, int]:
    df = sum(len(value_Q) for value_Q, _ in terms)
    return sum(float(wald(value_Q[None], influence_SQ)[0]) for value_Q, influence_SQ in terms) / df, df


def _uplift(fits: list[BucketFit], alpha_R: Floats, exposure: Exposure, *, usable: bool, note: str) -> Uplift:
    r_RBK = np.stack([fit.theta_RK2[..., 0] - alpha_R[:, None] * fit.theta_RK2[..., 1] for fit in fits], axis=1)
    v_BK = np.stack([((fit.theta_influence_SK2 @ np.array([1.0, -alpha_R[0]])) ** 2).sum(axis=0) for fit in fits])
    scale_B1 = (exposure.decay_B * np.array([fit.mean_y for fit in fits]))[:, None]
    return Uplift(judge="OBS", u_RBK=shrink(r_RBK, v_BK) * scale_B1, usable=usable, note=note)


def unadjusted(
    data: JudgeArrays, buckets: Buckets, exposure: Exposure, replicates: Replicates, basis_JF: Floats, note: str
) -> Obs:
    """α = 0, plain multi-treatment DML: hidden intent goes where it goes, and OBS is no key; `note` says why."""
    fits = [fit_bucket(data, buckets.bucket_J == b, replicates, basis_JF) for b in range(buckets.count)]
    alpha_R = np.zeros(len(replicates.weight_RS))
    uplift = _uplift(fits, alpha_R, exposure, usable=False, note=note)
    nan = float("nan")
    return Obs(uplift=uplift, alpha_R=alpha_R, relevance=nan, relevance_threshold=nan, post_window=nan, df=0)
