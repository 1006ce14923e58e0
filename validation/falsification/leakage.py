"""Leakage: a response that is a consequence of the upload, on users whom no model was fitted on.

    excess_r = 1 − loss(y | C, f(w), f(r)) / loss(y | C, f(w)),      f(z) = [Σ d z, mean z, sum of the last two z]
C = (F, n, D), w = the trusted response; logistic regressions cross-fitted over two halves of the users. An honest
response says nearly nothing of y beyond the trusted one, both being measurements of one mediator; a leak says nearly
all. The trusted one cannot be tested: honest watching explains up to a quarter. Training screens its own split the same
way (and credits leave out what it found); here the candidate's index is tested, too.
References: McFadden (1974), "Conditional logit analysis of qualitative choice behavior"; ALM-MTA (ICLR 2026).

Shapes: J journeys, T touches, p columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from validation.falsification.base import FalsificationConfig, Finding
from validation.gate import Blocking
from validation.judge_arrays import JudgeArrays, sampled_users
from validation.logistic import cross_fit_logistic
from validation.observational import upload_metrics
from validation.shards import Floats, bin_sums
from validation.uplift_fd import outcome_controls

TRUSTED = "watch_ratio"
LEAK_JOURNEYS = 30_000
"""Of the judge's, at most: a leak of this kind shows in far fewer."""


def leakage(data: JudgeArrays, basis_JF: Floats, u_T: Floats | None, config: FalsificationConfig) -> list[Finding]:
    """One finding a response other than the trusted one, and one for the candidate's index; blocking.

    At 12,000 journeys honest responses gave at most .002 beyond the trusted one (.019 for a like alone, beyond
    controls), leaks .68 and .99.
    """
    if not 0 < data.y_J.sum() < len(data.y_J):
        return []
    keep_J = sampled_users(data.shard_J, LEAK_JOURNEYS)
    keep_T = keep_J[data.journey_T]
    tested = {name: value_T for name, value_T in (data.responses | dict(data.ignored)).items() if name != TRUSTED}
    if u_T is not None and tested:
        tested["the model's index"] = u_T
    trusted_T = data.responses.get(TRUSTED)
    excess = leak_excess(
        data.subset(keep_J), basis_JF[keep_J], None if trusted_T is None else trusted_T[keep_T],
        {name: value_T[keep_T] for name, value_T in tested.items()},
    )  # fmt: skip
    threshold = config.leakage_untrusted if trusted_T is None else config.leakage
    return [_finding(name, *found, threshold, handled=name in data.ignored) for name, found in excess.items()]


def leak_excess(
    data: JudgeArrays, basis_JF: Floats, trusted_T: Floats | None, tested: Mapping[str, Floats]
) -> dict[str, tuple[float, float, float]]:
    """Excess, and the AUC of y without and with it, of each tested series of touches."""
    base_Jp = outcome_controls(data, basis_JF)
    if trusted_T is not None:
        base_Jp = np.concatenate([base_Jp, journey_features(trusted_T, data)], axis=1)
    half_J = data.shard_J % 2
    base = upload_metrics(cross_fit_logistic(base_Jp, data.y_J, half_J, 2), data.y_J)
    found = {}
    for name, value_T in tested.items():
        design_Jp = np.concatenate([base_Jp, journey_features(value_T, data)], axis=1)
        also = upload_metrics(cross_fit_logistic(design_Jp, data.y_J, half_J, 2), data.y_J)
        excess = 1 - also["upload_log_loss"] / base["upload_log_loss"]
        found[name] = (excess, base["upload_auc"], also["upload_auc"])
    return found


def journey_features(value_T: Floats, data: JudgeArrays) -> Floats:
    """f(z), standardised, [J, 3]."""
    J, count_J = len(data.y_J), data.touch_counts
    end_J = np.cumsum(count_J)
    last_two_T = end_J[data.journey_T] - np.arange(len(value_T)) <= 2
    features_J3 = np.stack(
        [
            bin_sums(data.journey_T, data.decay_T * value_T, J),
            bin_sums(data.journey_T, value_T, J) / np.maximum(count_J, 1),
            bin_sums(data.journey_T, value_T * last_two_T, J),
        ],
        axis=1,
    )
    return np.asarray((features_J3 - features_J3.mean(axis=0)) / np.maximum(features_J3.std(axis=0), 1e-9))


def _finding(name: str, excess: float, auc: float, auc_with: float, threshold: float, *, handled: bool) -> Finding:
    leaks = excess > threshold
    reason = f"leakage: {name} explains {excess:.0%} of what is left to say about uploads: it is their consequence"
    if handled:
        action = "Training left it out of the credits, and FD does not read it: mend the logs."
    else:
        action = "Remove it from the logs: credits that read it are worthless." if leaks else "none"
    return Finding(
        test=f"leakage, {name}",
        statistic=excess,
        threshold=threshold,
        verdict="warn" if handled else "fail" if leaks else "pass",
        meaning=f"Share of the upload's log-loss that it alone explains; AUC {auc:.3f}, with it {auc_with:.3f}.",
        action=action,
        blocks=Blocking(reason=reason) if leaks and not handled else None,
    )
