"""Placebo touchpoints: what cannot have caused an upload must earn no front-door credit.

    later      logit y ~ F, n, D, N₂, Σ_{l after the horizon} d̄ ε_l      against the real Σ_l d_l ε_l
    shuffled   FD refitted on journeys given to other users of the bucket:  SD(u shuffled) / SD(u real)
ε = FD's response index less content and content x profile, d̄ = the mean decay, N₂ = later touches by cluster.
Later touches cannot act back: a slope of y on the responses to them is hidden intent that moves responses, and the
share of the real slope that it reaches is what intent may have put into that one, too.
References: Rosenbaum (2002), "Observational studies", ch. 6, for known effects; Lipsitch, Tchetgen Tchetgen & Cohen
(2010), Epidemiology 21(3).

Shapes: J journeys, T touches, N later touches, K clusters, B buckets, p controls.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from validation.buckets import Buckets
from validation.falsification.base import Z_ONE_SIDED, FalsificationConfig, Finding, Ruling
from validation.falsification.relevance import fit_null, partial_slope
from validation.falsification.residuals import content_residual
from validation.judge_arrays import Exposure, JudgeArrays, sampled_users
from validation.shards import Floats, Ints, Replicates, bin_sums
from validation.uplift import Uplift
from validation.uplift_fd import outcome_controls, response_index, uplift_fd
from validation.uplift_obs import REFERENCE_JOURNEYS

SHUFFLED_JOURNEYS = 50_000
"""Of the judge's, at most: more would only cost time."""
_LEAST_T = 3.0
"""A real slope of fewer standard errors is nothing to take a share of."""
_NEVER = 0.5
"""A threshold that noise brought up here could not fail anything."""


def later_touches(data: JudgeArrays, basis_JF: Floats, config: FalsificationConfig) -> Finding | None:
    """Slope of uploads on responses to touches after the horizon, over the real slope; None without such touches.

    At 12,000 journeys simulated logs of valid worlds gave −.03 to .07 (−.18 to .20 where a noisy like is the only
    response), contaminated ones .43 to .72. Forty valid worlds of 14,000: −.20 to .14, none flagged; with all responses
    shifted by intent .47 to .67, all flagged; by less than a third of that .11 to .35, two in five flagged.
    """
    later = data.later
    if data.response_TR is None or data.post_JK is None or later is None or not len(later.journey_N):
        return None
    J, control_Jp = len(data.y_J), outcome_controls(data, basis_JF)
    real_T, later_N = np.split(_index_with_later(data, control_Jp), [len(data.journey_T)])
    real_T = content_residual(real_T, data.column_T, data.journey_T, basis_JF)
    later_N = content_residual(later_N, later.column_N, later.journey_N, basis_JF)
    z_real_J = bin_sums(data.journey_T, data.decay_T * real_T, J)
    z_later_J = bin_sums(later.journey_N, data.decay_T.mean() * later_N, J)
    post_JQ = data.post_JK[:, :-1] - data.post_JK[:, :-1].mean(axis=0)
    real, real_se = partial_slope(z_real_J, fit_null(data.y_J, control_Jp), data)
    slope, se = partial_slope(z_later_J, fit_null(data.y_J, np.concatenate([control_Jp, post_JQ], axis=1)), data)
    share, noise = slope / real, Z_ONE_SIDED * se / abs(real)
    told = abs(real) > _LEAST_T * real_se
    surely = told and abs(share) - noise > config.later_share
    verdict: Ruling = "warn" if surely else "pass" if told and noise <= config.later_share else "no power"
    actions = {
        "warn": "Hidden intent moves the responses: do not trust the scale of FD, nor of credits.",
        "no power": "The real responses say too little to compare with.",
    }
    return Finding(
        test="placebo, later touches",
        statistic=share,
        threshold=config.later_share,
        verdict=verdict,
        meaning="Credit of responses to touches after the outcome, as a share of the real ones' credit.",
        action=actions.get(verdict, "none"),
    )


def _index_with_later(data: JudgeArrays, control_Jp: Floats) -> Floats:
    """FD's index of the real touches, then of the later ones: those have decay 0, so they do not enter its fit."""
    assert data.later is not None
    assert data.response_TR is not None
    both = replace(
        data,
        journey_T=np.concatenate([data.journey_T, data.later.journey_N]),
        column_T=np.concatenate([data.column_T, data.later.column_N]),
        decay_T=np.concatenate([data.decay_T, np.zeros(len(data.later.journey_N))]),
        response_TR=np.concatenate([data.response_TR, data.later.response_NR]),
    )
    return response_index(both, control_Jp)


def shuffled_users(
    data: JudgeArrays, buckets: Buckets, exposure: Exposure, basis_JF: Floats, fd: Uplift,
    config: FalsificationConfig, *, seed: int,
) -> Finding:  # fmt: skip
    """Root mean square over shuffles of the credit that survives them, as a share of the real credit.

    It is all noise, and falls with √n: forty valid worlds of 14,000 journeys gave .00 to .05 (.03 to .10 with a noisy
    like as the only response), forty without an effect .19 to 160, a leak that crowds out the effects .5. Under the
    threshold it passes, above the threshold scaled by √n the real credit is no better than noise; what lies between
    cannot be told.
    """
    keep_J = sampled_users(data.shard_J, SHUFFLED_JOURNEYS)
    data, basis_JF, bucket_J = data.subset(keep_J), basis_JF[keep_J], buckets.bucket_J[keep_J]
    buckets = replace(buckets, bucket_J=bucket_J, propensity_J=buckets.propensity_J[keep_J])
    rng = np.random.default_rng(seed)
    shuffled = []
    for _ in range(config.shuffles):
        order_J = _order_within(bucket_J, rng)
        other = replace(
            data, y_J=data.y_J[order_J], n_J=data.n_J[order_J], covered_J=data.covered_J[order_J],
            x_JP=data.x_JP[order_J],
        )  # fmt: skip
        shuffled.append(_spread(_fd_sample(other, buckets, exposure, basis_JF[order_J]), exposure))
    share = math.sqrt(float(np.mean(np.square(shuffled)))) / max(_spread(fd.sample, exposure), 1e-300)
    at_this_size = config.shuffled_share * math.sqrt(max(REFERENCE_JOURNEYS / len(data.y_J), 1.0))
    noise_alone = share <= at_this_size or at_this_size > _NEVER
    verdict: Ruling = "pass" if share <= config.shuffled_share else "no power" if noise_alone else "warn"
    actions = {
        "warn": "FD's credit is no larger than what shuffled journeys earn: do not rely on FD.",
        "no power": "More journeys would tell credit from noise.",
    }
    return Finding(
        test="placebo, shuffled users",
        statistic=share,
        threshold=config.shuffled_share,
        verdict=verdict,
        meaning="Credit that FD finds in journeys given to other users of the bucket, as a share of the real credit.",
        action=actions.get(verdict, "none"),
    )


def _order_within(bucket_J: Ints, rng: np.random.Generator) -> Ints:
    """A random order of the journeys that keeps every bucket's places."""
    order_J = np.arange(len(bucket_J))
    for b in np.unique(bucket_J):
        place = np.flatnonzero(bucket_J == b)
        order_J[place] = rng.permutation(place)
    return order_J


def _fd_sample(data: JudgeArrays, buckets: Buckets, exposure: Exposure, basis_JF: Floats) -> Floats:
    """FD's u of these journeys, without replicates. [B, K]."""
    sample = Replicates(weight_RS=np.ones((1, int(data.shard_J.max()) + 1)), half_pairs=0)
    fd = uplift_fd(data, buckets, exposure, sample, basis_JF)
    assert fd is not None
    return fd.sample


def _spread(u_BK: Floats, exposure: Exposure) -> float:
    """SD over clusters within buckets, weighted by touches."""
    u_BK = u_BK - (u_BK * exposure.w_BK).sum(axis=1, keepdims=True)
    return math.sqrt(float((exposure.w_BK * exposure.pi_B[:, None] * u_BK**2).sum()))
