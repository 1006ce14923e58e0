"""Ridge-penalised logistic regression by Newton's method, and its cross-fitted prediction.

    β = argmin −Σ_j log p(y_j | a_j·β) + ½ r Σ_{p>0} s_p² β_p²,   s_p = sd of column p; column 0 is the intercept.
Reference: Hastie, Tibshirani & Friedman (2009), "The elements of statistical learning", section 4.4.

Shapes: J rows, p columns.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from validation.shards import Floats, Ints, solve_spd

RIDGE = 1.0
STEPS = 25


def fit_logistic(a_Jp: Floats, y_J: Floats, *, ridge: float = RIDGE) -> Floats:
    """Coefficients [p]; column 0 of `a_Jp` must be the intercept."""
    rate = float(np.clip(y_J.mean(), 1e-6, 1 - 1e-6))
    beta_p = np.zeros(a_Jp.shape[1])
    beta_p[0] = np.log(rate / (1 - rate))
    variance_p = a_Jp.var(axis=0)
    sd_p, penalty_p = np.sqrt(variance_p), ridge * variance_p
    penalty_p[0] = 0.0
    for _ in range(STEPS):
        p_J = expit(a_Jp @ beta_p)
        gradient_p = a_Jp.T @ (y_J - p_J) - penalty_p * beta_p
        weighted_Jp = a_Jp * (p_J * (1 - p_J))[:, None]
        step_p = solve_spd(a_Jp.T @ weighted_Jp + np.diag(penalty_p), gradient_p[:, None])[:, 0]
        beta_p = beta_p + np.clip(step_p, -5.0, 5.0)
        if np.abs(step_p * sd_p).max(initial=abs(step_p[0])) < 1e-7:
            break
    return beta_p


def cross_fit_logistic(a_Jp: Floats, y_J: Floats, fold_J: Ints, folds: int) -> Floats:
    """P(y | a) [J], each fold predicted by a fit on the others; where the others hold one class, their rate."""
    p_J = np.empty(len(y_J))
    for fold in range(folds):
        held, rest = fold_J == fold, fold_J != fold
        p_J[held] = expit(a_Jp[held] @ fit_logistic(a_Jp[rest], y_J[rest]))
    return p_J
