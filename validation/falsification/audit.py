"""The randomised audit: touches drawn at random must not contradict what the keys say of the candidate.

    Δ = Σ_b π_b Σ_k w u (s_champion − s_challenger) under the randomised judge (validation/uplift_randomised.py)
That judge is unbiased by design and wide, so it never decides for the candidate; surely (one-sided 95%) against it, it
does. Where Δ as the keys measure it lies within its noise, it cannot tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from validation.falsification.base import Z_ONE_SIDED, Finding, Ruling
from validation.gate import Blocking, Key


def randomised_audit(audit: Key, keys: Sequence[Key], rival: str) -> Finding:
    """z of the candidate's advantage under the randomised judge; surely negative, it blocks."""
    z = audit.delta / max(audit.se, 1e-300)
    expected = abs(float(np.mean([key.delta for key in keys]))) if keys else 0.0
    verdict: Ruling = "fail" if z < -Z_ONE_SIDED else "no power" if expected < Z_ONE_SIDED * audit.se else "pass"
    reason = f"randomised exposures contradict it: the candidate ranks worse than {rival} on them (z {z:.1f})"
    actions = {
        "fail": "Trust the experiment: an assumption of the other judges fails on these logs.",
        "no power": "Randomise more exposures: these are too few to audit a difference of this size.",
    }
    return Finding(
        test="randomised audit",
        statistic=z,
        threshold=-Z_ONE_SIDED,
        verdict=verdict,
        meaning=f"The candidate's advantage over {rival} on exposures that were drawn at random, in standard errors.",
        action=actions.get(verdict, "none"),
        blocks=Blocking(reason=reason) if verdict == "fail" else None,
    )
