"""Positivity: had journeys like these been seen with other touches, so that a credit compares what was observed?

The model abstains where the effective size of its bank, (Σ w)² / Σ w² over journeys alike in profile, is small.
References: Rosenbaum & Rubin (1983), Biometrika 70(1), for overlap; Kong (1992), for the effective sample size.

Shapes: T touches.
"""

from __future__ import annotations

import numpy as np

from validation.falsification.base import FalsificationConfig, Finding, Ruling
from validation.gate import Blocking
from validation.shards import Floats


def positivity(overlap_ess_T: Floats, abstained_T: Floats, config: FalsificationConfig) -> Finding:
    """Share of the judge's touches whose credit abstains; where most do, nothing can be approved."""
    share = float(abstained_T.mean())
    low, median = np.quantile(overlap_ess_T, [0.05, 0.5])
    verdict: Ruling = "fail" if share > config.abstained_fail else "warn" if share > config.abstained_warn else "pass"
    actions = {
        "fail": "Collect journeys of such users, or coarsen the profile.",
        "warn": "Do not spend on credits that abstain.",
    }
    reason = f"no overlap: {share:.0%} of credits abstain for want of comparable journeys"
    return Finding(
        test="positivity",
        statistic=share,
        threshold=config.abstained_fail if verdict == "fail" else config.abstained_warn,
        verdict=verdict,
        meaning=f"Share of credits without enough comparable journeys; effective number: median {median:.0f}, "
        f"lowest twentieth {low:.0f}.",
        action=actions.get(verdict, "none"),
        blocks=Blocking(reason=reason, verdict="inconclusive") if verdict == "fail" else None,
    )
