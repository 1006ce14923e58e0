"""OBS: cluster effects from observed confounders and two negative controls.

In bucket b, with F = [1, x, x² − 1], doses D and post-horizon counts N₂ (which can cause neither y nor n):
    logit P(y = 1) = F·η + D·θʸ + N₂·φʸ,      log E n = F·η' + D·θⁿ + N₂·φⁿ
What N₂ predicts is hidden intent, in the same direction for y and n, so
    α = argmin Σ_b (φʸ − αφⁿ)ᵀ V(α)⁻¹ (φʸ − αφⁿ),     V(α) = Cov(φʸ − αφⁿ), full,
    r = θʸ − αθⁿ, shrunk over buckets,                 u_bk = r̃_bk · mean p(1 − p)_b · mean decay_b.
Only contrasts between clusters are identified, not the level. α = 0 (plain DML, fooled by hidden intent) where n
says nothing about N₂: then OBS is no key.
Why these links: what people see tells of their intent linearly (exposure ∝ exp(taste), so that intent given counts is
about normal with a mean linear in them), and intent moves the rate of uploads by a factor. Then φʸ and φⁿ are parallel,
and so are the shares of intent in θʸ and θⁿ. On a linear probability, or log(1 + n), what intent multiplies is left
over as a bias: on selection worlds where content and intent pull the same way, OBS by those correlated .65 to 1 with
FD (noise taken out), and by these .96 to 1, as it does by both where intent pulls the other way.
A prior, θ_k and φ_k ~ Normal(their mean over clusters, 1), keeps a cell without uploads from −∞. A replicate moves by
its shards' influence, θ_r = θ + Σ_s (w_rs − 1) H⁻¹ g_s: one step from the sample's fit.
References: Miao, Geng & Tchetgen Tchetgen (2018), Biometrika 105(4), negative controls; Anderson & Rubin (1949),
Ann. Math. Stat. 20(1), for the objective; Liang & Zeger (1986), Biometrika 73(1), for V (clustered by shard).

Shapes: R replicates, S shards, B buckets, K clusters, Q = K − 1 columns of N₂, J journeys, p columns of (F, D, N₂).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import chi2

from validation.buckets import Buckets
from validation.glm import GlmFit, fit_glm
from validation.judge_arrays import Bools, Exposure, JudgeArrays
from validation.shards import Floats, Ints, Replicates, shard_sums, solve_spd, wald
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
    slope_y: float
    """Mean p(1 − p): what a unit on the logit is worth in probability."""


@dataclass(frozen=True, kw_only=True)
class Obs:
    """The judge, and what the falsification battery reads: `alpha_R` and Wald statistics per degree of freedom."""

    uplift: Uplift
    plain: Uplift
    """The same without the negative control, α = 0: multi-treatment DML, never a key."""
    alpha_R: Floats
    relevance: float
    relevance_threshold: float
    post_window: float
    df: int


def uplift_obs(
    data: JudgeArrays, buckets: Buckets, exposure: Exposure, replicates: Replicates, basis_JF: Floats
) -> Obs:
    """Measure u_bk; no key without post-horizon counts or where n is irrelevant to them."""
    fits = [fit_bucket(data, buckets.bucket_J == b, replicates, basis_JF) for b in range(buckets.count)]
    if data.n_J.var() == 0 or data.post_JK is None or data.post_JK.sum() == 0:
        missing = "no uploads before the window" if data.n_J.var() == 0 else "no touches after the horizon"
        return _unadjusted(fits, exposure, replicates, f"{missing}: hidden intent unadjusted")
    relevance, df = _wald_per_df([(fit.phi_RQ2[0, :, 1], fit.phi_influence_SQ2[:, :, 1]) for fit in fits])
    threshold = relevance_threshold(len(data.y_J), df)
    plain = _unadjusted(
        fits, exposure, replicates,
        f"uploads before the window do not reveal intent (Wald/df {relevance:.2f} < {threshold:.2f})",
    )  # fmt: skip
    found = replace(plain, relevance=relevance, relevance_threshold=threshold, df=df)
    if relevance < threshold:
        return found
    alpha_R, objective = estimate_alpha(fits)
    uplift = _uplift(fits, alpha_R, exposure, judge="OBS", usable=True, note="")
    return replace(found, uplift=uplift, alpha_R=alpha_R, post_window=objective / max(df - 1, 1))


def _unadjusted(fits: list[BucketFit], exposure: Exposure, replicates: Replicates, note: str) -> Obs:
    """α = 0, plain multi-treatment DML: hidden intent goes where it goes, and OBS is no key; `note` says why."""
    alpha_R, nan = np.zeros(len(replicates.weight_RS)), float("nan")
    plain = _uplift(fits, alpha_R, exposure, judge="DML", usable=False, note=note)
    return Obs(
        uplift=replace(plain, judge="OBS"), plain=plain, alpha_R=alpha_R, relevance=nan, relevance_threshold=nan,
        post_window=nan, df=0,
    )  # fmt: skip


def relevance_threshold(journeys: int, df: int) -> float:
    """Wald/df − 1 grows with the sample, so its threshold does; never under what noise reaches once in 1000."""
    scaled = 1 + (RELEVANCE_WALD - 1) * journeys / REFERENCE_JOURNEYS
    return float(max(scaled, chi2.ppf(0.999, df) / df))


def fit_bucket(data: JudgeArrays, rows: Bools, replicates: Replicates, basis_JF: Floats) -> BucketFit:
    """Both regressions on (F, D, N₂) of the bucket's journeys."""
    parts = [_controls(basis_JF[rows], data.covered_J[rows]), data.dose_JK[rows]]
    if data.post_JK is not None:
        parts.append(data.post_JK[rows][:, :-1])
    design_Jp, shard_J = np.concatenate(parts, axis=1), data.shard_J[rows]
    first, K = parts[0].shape[1], data.dose_JK.shape[1]
    penalty_pp = _prior(first, K, design_Jp.shape[1])
    on_y = fit_glm(design_Jp, data.y_J[rows], penalty_pp, "logit")
    on_n = fit_glm(design_Jp, data.n_J[rows], penalty_pp, "log")
    influence_Sp2 = np.stack([_influence(fit, design_Jp, shard_J, replicates.shards) for fit in (on_y, on_n)], axis=2)
    beta_p2 = np.stack([on_y.beta_p, on_n.beta_p], axis=1)
    beta_Rp2 = beta_p2 + np.tensordot(replicates.weight_RS - 1, influence_Sp2, axes=1)
    theta, phi = slice(first, first + K), slice(first + K, design_Jp.shape[1])
    return BucketFit(
        theta_RK2=beta_Rp2[:, theta],
        phi_RQ2=beta_Rp2[:, phi],
        theta_influence_SK2=influence_Sp2[:, theta],
        phi_influence_SQ2=influence_Sp2[:, phi],
        slope_y=float(on_y.weight_J.mean()),
    )


def _prior(first: int, K: int, p: int) -> Floats:
    """P [p, p]: clusters are about alike in D, and in N₂ (where the one dropped has 0); F does little."""
    penalty_pp = np.eye(p)
    penalty_pp[0, 0] = 0.0
    penalty_pp[first : first + K, first : first + K] -= 1 / K
    penalty_pp[first + K :, first + K :] -= 1 / K
    return penalty_pp


def _influence(fit: GlmFit, design_Jp: Floats, shard_J: Ints, shards: int) -> Floats:
    """H⁻¹ g_s: what doubling a shard does to the coefficients, [S, p]."""
    score_Sp = shard_sums(design_Jp * fit.residual_J[:, None], shard_J, shards)
    return solve_spd(fit.hessian_pp, score_Sp.T).T


def _controls(basis_JF: Floats, covered_J: Floats) -> Floats:
    """F, and the days that the logs cover of n's window where they differ: n grows with them, intent does not."""
    days_J = np.log1p(covered_J)
    if days_J.std() < 1e-9:
        return basis_JF
    return np.concatenate([basis_JF, ((days_J - days_J.mean()) / days_J.std())[:, None]], axis=1)


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


def _uplift(
    fits: list[BucketFit], alpha_R: Floats, exposure: Exposure, *, judge: str, usable: bool, note: str
) -> Uplift:
    r_RBK = np.stack([fit.theta_RK2[..., 0] - alpha_R[:, None] * fit.theta_RK2[..., 1] for fit in fits], axis=1)
    v_BK = np.stack([((fit.theta_influence_SK2 @ np.array([1.0, -alpha_R[0]])) ** 2).sum(axis=0) for fit in fits])
    scale_B1 = (exposure.decay_B * np.array([fit.slope_y for fit in fits]))[:, None]
    return Uplift(judge=judge, u_RBK=shrink(r_RBK, v_BK) * scale_B1, usable=usable, note=note)
