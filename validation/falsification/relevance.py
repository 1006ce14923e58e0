"""Mediator relevance: do uploads follow the responses that content does not explain?

    z_j = Σ_l d_l e_l  (pooled)   or   Σ_l d_l (e_l − ē_j)  (within journeys),     t of z in logit y ~ z + controls
e = response index less the mediator's prior. Within a journey nothing is left of what hidden intent adds to all touches
alike. Reference: Pearl (1995), Biometrika 82(4): without M -> Y there is no front door.

Shapes: J journeys, T touches, S shards, p controls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from validation.falsification.base import Z_ONE_SIDED, FalsificationConfig, Finding, Ruling
from validation.gate import Blocking
from validation.judge_arrays import JudgeArrays
from validation.logistic import fit_logistic
from validation.shards import Floats, bin_sums, shard_sums, solve_spd
from validation.uplift_fd import outcome_controls
from validation.uplift_obs import REFERENCE_JOURNEYS

_LEAST_T = 2.33
"""A relevance t under its one-sided 1% point is no evidence, however small the sample."""


def mediator_relevance(
    data: JudgeArrays, basis_JF: Floats, residual_T: Floats, config: FalsificationConfig
) -> list[Finding]:
    """Do uploads follow the responses that content does not explain? Pooled, and within journeys.

    Within a journey Σ_l d_l (e_l − ē) cannot carry what hidden intent adds to all touches, so passing means
    something; but where a journey's touches lie close in time its d_l hardly differ and the test has no power. The
    pooled Σ_l d_l e_l has power and intent can fake it: passing it proves nothing, failing it ends the matter.
    """
    J = len(data.y_J)
    null = fit_null(data.y_J, outcome_controls(data, basis_JF))
    pooled_J = bin_sums(data.journey_T, data.decay_T * residual_T, J)
    within_J = bin_sums(data.journey_T, data.decay_T * data.within_journeys(residual_T), J)
    threshold = max(config.relevance_t * math.sqrt(J / REFERENCE_JOURNEYS), _LEAST_T)
    slope, pooled_se = partial_slope(pooled_J, null, data)
    within, within_se = partial_slope(within_J, null, data)
    expected_t = abs(slope) / within_se
    return [
        _relevance(
            "mediator relevance, pooled", slope / pooled_se, threshold, powered=True,
            meaning="t of the responses' residual against uploads given touches, profile and past uploads.",
        ),
        _relevance(
            "mediator relevance, within journeys", within / within_se, threshold,
            powered=expected_t >= threshold + Z_ONE_SIDED,
            meaning="The same after removing each journey's mean, which hidden intent could shift.",
        ),
    ]  # fmt: skip


def _relevance(test: str, t: float, threshold: float, *, powered: bool, meaning: str) -> Finding:
    passed = t >= threshold
    reason = f"no mediator evidence: uploads do not follow the responses ({test}: t {t:.1f} < {threshold:.1f})"
    verdict: Ruling = "pass" if passed else "fail" if powered else "no power"
    actions = {
        "pass": "none",
        "fail": "Do not use these credits: responses carry no inspiration that moves uploads.",
        "no power": "Touches of a journey lie too close in time to tell; rely on the two keys.",
    }
    return Finding(
        test=test, statistic=t, threshold=threshold, verdict=verdict, meaning=meaning, action=actions[verdict],
        blocks=Blocking(reason=reason) if verdict == "fail" else None,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Null:
    """logit y ~ controls, by which the slopes of several z can be tested."""

    controls_Jp: Floats
    p_J: Floats


def fit_null(y_J: Floats, controls_Jp: Floats) -> Null:
    """Column 0 of `controls_Jp` must be the intercept."""
    return Null(controls_Jp=controls_Jp, p_J=expit(controls_Jp @ fit_logistic(controls_Jp, y_J)))


def partial_slope(z_J: Floats, null: Null, data: JudgeArrays) -> tuple[float, float]:
    """Slope of logit y on z given the controls, by one score step from z = 0, and its standard error by shard.

    The link must be the logistic one: on a linear probability, what x does to both z and the rate of y passes for
    an effect of z (t of −4 was seen in a world without any).
    """
    controls_Jp, p_J = null.controls_Jp, null.p_J
    weighted_Jp = controls_Jp * (p_J * (1 - p_J))[:, None]
    explained_p = solve_spd(controls_Jp.T @ weighted_Jp, (weighted_Jp.T @ z_J)[:, None])[:, 0]
    z_J = z_J - controls_Jp @ explained_p
    information = max(float(z_J @ (p_J * (1 - p_J) * z_J)), 1e-300)
    slope = float(z_J @ (data.y_J - p_J)) / information
    residual_J = data.y_J - p_J - p_J * (1 - p_J) * slope * z_J
    score_S = shard_sums((z_J * residual_J)[:, None], data.shard_J, int(data.shard_J.max()) + 1)
    return slope, max(float(np.sqrt((score_S**2).sum())) / information, 1e-300)
