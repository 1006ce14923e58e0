"""Calibration of the factual P(Y | T, S, x, n): of what was observed, not of what would be without a touch.

    slope: b of logit y ~ a + b·logit p;      level: Σ (y − p) / Σ p(1 − p), one score step on the logit
with standard errors by shard. It says nothing causal, but a model that misses the facts is not to be trusted with what
was not observed. References: Cox (1958), "Two further applications of a model for binary regression", Biometrika 45;
Wilson (1927), J. Am. Stat. Assoc. 22, for the curve's intervals.

Shapes: J journeys, S shards.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import binomtest

from validation.auuc import Z95
from validation.falsification.base import Z_ONE_SIDED, FalsificationConfig, Finding, Ruling
from validation.logistic import fit_logistic
from validation.shards import Floats, Ints, shard_sums

BINS = 10


def calibration(p_J: Floats, y_J: Floats, shard_J: Ints, config: FalsificationConfig) -> list[Finding]:
    """How far slope and level are surely (one-sided 95%) off; a warning."""
    p_J = np.clip(p_J, 1e-6, 1 - 1e-6)
    design_J2 = np.stack([np.ones_like(p_J), logit(p_J)], axis=1)
    if design_J2[:, 1].std() < 1e-9 or not 0 < y_J.sum() < len(y_J):
        return []
    beta_2 = fit_logistic(design_J2, y_J, ridge=0.0)
    slope_se = _standard_errors(design_J2, y_J, expit(design_J2 @ beta_2), shard_J)[1]
    level = float((y_J - p_J).sum() / (p_J * (1 - p_J)).sum())
    level_se = _standard_errors(design_J2[:, :1], y_J, p_J, shard_J)[0]
    slope = _finding(
        "calibration, slope", float(beta_2[1]) - 1, slope_se, config.calibration,
        meaning="Slope of uploads on the logit of the factual probability, less 1.",
    )  # fmt: skip
    height = _finding(
        "calibration, level", level, level_se, config.calibration,
        meaning="Uploads against the factual probability: the shift on the logit that would mend it.",
    )  # fmt: skip
    return [slope, height]


def _standard_errors(design_Jp: Floats, y_J: Floats, p_J: Floats, shard_J: Ints) -> Floats:
    """Sandwich by shard, [p]."""
    bread_pp = np.linalg.inv(design_Jp.T @ (design_Jp * (p_J * (1 - p_J))[:, None]))
    score_Sp = shard_sums(design_Jp * (y_J - p_J)[:, None], shard_J, int(shard_J.max()) + 1)
    return np.asarray(np.sqrt(np.diag(bread_pp @ (score_Sp.T @ score_Sp) @ bread_pp)))


def _finding(test: str, off: float, se: float, tolerance: float, *, meaning: str) -> Finding:
    """Significance alone would condemn every model once journeys are many: it must be surely beyond a tolerance."""
    noise = Z_ONE_SIDED * se
    verdict: Ruling = "warn" if abs(off) - noise > tolerance else "no power" if noise > tolerance else "pass"
    return Finding(
        test=test,
        statistic=off,
        threshold=tolerance,
        verdict=verdict,
        meaning=f"{meaning} Standard error {se:.3f}, z {off / max(se, 1e-12):+.1f}.",
        action="The fit misses the facts: train longer, or look for drift." if verdict == "warn" else "none",
    )


def calibration_curve(p_J: Floats, y_J: Floats) -> list[dict[str, Any]]:
    """Observed rate and its 95% interval (Wilson) against the mean prediction, by tenths of the prediction."""
    order_J = np.argsort(p_J, kind="stable")
    points = []
    for row_N in np.array_split(order_J, min(BINS, len(order_J))):
        uploads = binomtest(int(y_J[row_N].sum()), len(row_N))
        interval = uploads.proportion_ci(math.erf(Z95 / math.sqrt(2)), method="wilson")  # at ±Z95
        points.append(
            {
                "journeys": len(row_N), "predicted": float(p_J[row_N].mean()), "observed": float(y_J[row_N].mean()),
                "low": float(interval.low), "high": float(interval.high),
            }
        )  # fmt: skip
    return points
