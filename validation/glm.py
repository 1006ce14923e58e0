"""Penalised regression of flags on a logistic link, or of counts on a logarithmic one, by Newton's method.

    β = argmin Σ_j (A(a_j·β) − y_j a_j·β) + ½ βᵀPβ,     A(η) = log(1 + exp η)  or  exp η,   A' the mean, A'' its weight
Only the mean must be right (quasi-likelihood): errors must come from elsewhere.
Reference: Gourieroux, Monfort & Trognon (1984), "Pseudo maximum likelihood methods: applications to Poisson models",
Econometrica 52(3).

Shapes: J rows, p columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit, logit

from validation.shards import Floats, solve_spd

Link = Literal["logit", "log"]
STEPS = 50
_LONGEST = 2.0
"""A column's standard deviation times its step, at most: the exponential forgives no overshooting."""
_LARGEST = 30.0
_LARGEST_RATE = 1 - 1e-6


@dataclass(frozen=True, kw_only=True)
class GlmFit:
    """β [p], what y exceeds its mean by and A'' [J], and the penalised Hessian Σ_j A'' a_j a_jᵀ + P [p, p]."""

    beta_p: Floats
    residual_J: Floats
    weight_J: Floats
    hessian_pp: Floats


def fit_glm(a_Jp: Floats, y_J: Floats, penalty_pp: Floats, link: Link) -> GlmFit:
    """Column 0 of `a_Jp` must be the intercept, without a penalty; where `y_J` is all 0 so are β and the mean."""
    beta_p = np.zeros(a_Jp.shape[1])
    if not y_J.any():
        return GlmFit(beta_p=beta_p, residual_J=y_J, weight_J=y_J, hessian_pp=penalty_pp)
    beta_p[0] = logit(min(y_J.mean(), _LARGEST_RATE)) if link == "logit" else np.log(y_J.mean())
    sd_p = a_Jp.std(axis=0)
    sd_p[0] = 1.0
    for _ in range(STEPS):
        fit = _at(beta_p, a_Jp, y_J, penalty_pp, link)
        gradient_p = a_Jp.T @ fit.residual_J - penalty_pp @ beta_p
        step_p = solve_spd(fit.hessian_pp, gradient_p[:, None])[:, 0]
        length = float(np.abs(step_p * sd_p).max())
        beta_p = beta_p + step_p * min(1.0, _LONGEST / max(length, 1e-300))
        if length < 1e-6:
            break
    return _at(beta_p, a_Jp, y_J, penalty_pp, link)


def _at(beta_p: Floats, a_Jp: Floats, y_J: Floats, penalty_pp: Floats, link: Link) -> GlmFit:
    eta_J = a_Jp @ beta_p
    mean_J = expit(eta_J) if link == "logit" else np.exp(np.minimum(eta_J, _LARGEST))
    weight_J = mean_J * (1 - mean_J) if link == "logit" else mean_J
    hessian_pp = a_Jp.T @ (a_Jp * weight_J[:, None]) + penalty_pp
    return GlmFit(beta_p=beta_p, residual_J=y_J - mean_J, weight_J=weight_J, hessian_pp=hessian_pp)
