"""Contamination: do people who mean to create respond more, to everything or to some clusters?

    overall      corr(R_j, log(1 + n_j) | F, D),   R = the journey's mediator residual
    by cluster   g_k = Σ_j ñ_j Σ_{l ∈ j, k} ε_l,   Wald/df of g = 0,   ñ = log(1 + n) given (F, D),
                 ε = the index less journey, content and content x profile (validation/falsification/residuals.py)
n = uploads before the window, which hidden intent moves and no touch can. The first shifts all of a journey's touches,
which the within-journey contrast removes; what differs by cluster it cannot remove.
Reference: Lipsitch, Tchetgen Tchetgen & Cohen (2010), Epidemiology 21(3), for negative-control outcomes.

Shapes: J journeys, T touches, K clusters, Q = K − 1, S shards, p controls.
"""

from __future__ import annotations

import math

import numpy as np

from validation.falsification.base import Z_ONE_SIDED, FalsificationConfig, Finding, Ruling, wald_threshold
from validation.falsification.residuals import within_residual
from validation.judge_arrays import JudgeArrays
from validation.shards import Floats, shard_sums, solve_spd, wald

_JOURNEYS_A_DF = 25
"""Below this the covariance of g is too rough: a valid world of 500 journeys and 40 clusters reached Wald/df of 2.6."""


def contamination(data: JudgeArrays, basis_JF: Floats, residual_J: Floats, config: FalsificationConfig) -> Finding:
    """Correlation of the journey's mediator residual with past uploads, given touches and profile."""
    both_J2 = np.stack([residual_J, np.log1p(data.n_J)], axis=1)
    both_J2 = _given_touches(both_J2, data, basis_JF)
    scale = np.sqrt((both_J2**2).sum(axis=0).prod())
    corr = float(both_J2[:, 0] @ both_J2[:, 1] / scale) if scale > 0 else 0.0
    noise = Z_ONE_SIDED / math.sqrt(len(residual_J))
    suspicious = abs(corr) > config.contamination + noise
    verdict: Ruling = "warn" if suspicious else "no power" if noise > config.contamination else "pass"
    return Finding(
        test="contaminated responses",
        statistic=corr,
        threshold=config.contamination + noise,
        verdict=verdict,
        meaning="People who mean to create respond more to everything: the index is not inspiration alone.",
        action="Keep the within-journey contrast on; do not trust the scale of credits." if suspicious else "none",
    )


def contamination_by_cluster(data: JudgeArrays, basis_JF: Floats, u_T: Floats, config: FalsificationConfig) -> Finding:
    """Wald/df of the index within journeys, cluster by cluster, on past uploads.

    Valid worlds gave .6 to 1.8 at 12,000 to 14,000 journeys (none of 40 flagged) and 1.0 to 1.4 at 50,000 to 100,000,
    also where intent shifts all responses alike. Loadings of intent that vary by .1 over clusters, whose true effects
    on the response vary by .22, gave 1.1 to 3.1 at 14,000 (29 of 40 flagged), 5.0 to 6.7 at 50,000 and 7.1 at 100,000;
    loadings that vary by .3 gave 3.2 to 9.5 at 14,000 (all flagged).
    """
    K = len(data.cluster_K)
    tilde_n_J = _given_touches(np.log1p(data.n_J)[:, None], data, basis_JF)[:, 0]
    g_JK = data.per_journey_cluster(within_residual(u_T, data, basis_JF) * tilde_n_J[data.journey_T])
    g_SQ, df = shard_sums(g_JK, data.shard_J, int(data.shard_J.max()) + 1)[:, :-1], max(K - 1, 1)
    wald_per_df = float(wald(g_SQ.sum(axis=0)[None], g_SQ - g_SQ.mean(axis=0))[0]) / df
    threshold = wald_threshold(config.cluster_contamination_wald, len(data.y_J), df)
    powered = K > 1 and len(data.y_J) >= _JOURNEYS_A_DF * df
    suspicious = powered and wald_per_df > threshold
    return Finding(
        test="contaminated responses, by cluster",
        statistic=wald_per_df if K > 1 else None,
        threshold=threshold,
        verdict="warn" if suspicious else "pass" if powered else "no power",
        meaning="Wald/df of past uploads on responses within journeys: intent that favours some clusters.",
        action="FD and credits may favour clusters that intent responds to: rely on OBS." if suspicious else "none",
    )


def _given_touches(value_Jq: Floats, data: JudgeArrays, basis_JF: Floats) -> Floats:
    """Least-squares residual on (F, days covered, D)."""
    covered_J1 = data.covered_J[:, None] - data.covered_J.mean()
    controls_Jp = np.concatenate([basis_JF, covered_J1, data.dose_JK], axis=1)
    return value_Jq - controls_Jp @ solve_spd(controls_Jp.T @ controls_Jp, controls_Jp.T @ value_Jq)
