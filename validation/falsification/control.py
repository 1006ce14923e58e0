"""The negative controls: does the control see hidden intent at all, and what does the adjustment leave of it?

Both are by-products of OBS (validation/uplift_obs.py): φⁿ and φʸ − αφⁿ, each against its own noise.
"""

from __future__ import annotations

from validation.falsification.base import FalsificationConfig, Finding
from validation.gate import Blocking
from validation.uplift_obs import REFERENCE_JOURNEYS, Obs


def control_relevance(obs: Obs) -> Finding:
    """Do post-horizon exposures predict past uploads, as hidden intent would make them?"""
    relevant = obs.relevance >= obs.relevance_threshold
    return Finding(
        test="negative control relevance",
        statistic=obs.relevance,
        threshold=obs.relevance_threshold,
        verdict="pass" if relevant else "warn",
        meaning="Wald/df of later exposures on past uploads: how much hidden intent the control shows.",
        action="none" if relevant else "OBS is no key here: the gate cannot approve on FD alone.",
    )


def post_window(obs: Obs, journeys: int, config: FalsificationConfig) -> Finding:
    """What later exposures still predict of y after adjustment: intent of another kind, or uploads feeding the feed."""
    threshold = 1 + (config.post_window_wald - 1) * max(journeys / REFERENCE_JOURNEYS, 0.2)
    high = obs.post_window > threshold
    reason = (
        "later exposures are no negative control here: they follow uploads beyond hidden intent "
        f"(post-window exposures: {obs.post_window:.1f}, limit {threshold:.1f}), and one key alone cannot approve"
    )
    return Finding(
        test="post-window exposures",
        statistic=obs.post_window,
        threshold=threshold,
        verdict="fail" if high else "pass",
        meaning="Wald/df of later exposures on uploads after the negative-control adjustment.",
        action="Uploads seem to change what is shown later: OBS cannot be trusted. Randomise some exposures."
        if high
        else "none",
        blocks=Blocking(reason=reason, verdict="inconclusive") if high else None,
    )
