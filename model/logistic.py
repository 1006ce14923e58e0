"""Ridge-penalised logistic regression by Newton steps, for a handful of columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def fit_logistic(x_JP: Floats, y_J: Floats, ridge: float = 1.0, steps: int = 12) -> tuple[Floats, float]:
    """Weights [P] and bias."""
    x_JP1 = np.column_stack([x_JP, np.ones(len(x_JP))])
    penalty = np.diag([ridge] * x_JP.shape[1] + [1e-9])
    weight = np.zeros(x_JP1.shape[1])
    for _ in range(steps):
        p_J = 1 / (1 + np.exp(-np.clip(x_JP1 @ weight, -30, 30)))
        gradient = x_JP1.T @ (y_J - p_J) - penalty @ weight
        curvature = (x_JP1 * (p_J * (1 - p_J))[:, None]).T @ x_JP1 + penalty
        weight = weight + np.linalg.solve(curvature + 1e-9 * np.eye(len(weight)), gradient)
    return weight[:-1], float(weight[-1])


def log_loss(logit_J: Floats, y_J: Floats) -> float:
    """Mean −log P(y)."""
    return float(np.mean(np.logaddexp(0, logit_J) - y_J * logit_J))
