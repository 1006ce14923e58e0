"""Cell size: has the median cell (bucket x cluster) enough treated journeys to be measured?"""

from __future__ import annotations

import math

from validation.buckets import Buckets
from validation.falsification.base import FalsificationConfig, Finding
from validation.gate import Blocking


def cell_size(buckets: Buckets, journeys: int, config: FalsificationConfig) -> Finding:
    """Median treated journeys per cell; blocking, more journeys mend it."""
    median = buckets.median_treated
    enough = median >= config.min_treated
    needed = math.ceil(journeys * config.min_treated / max(median, 1))
    reason = (
        f"too few journeys: the median cluster has {median:,} treated, {config.min_treated:,} are needed; "
        f"about {needed:,} judge journeys would do, here {journeys:,}"
    )
    return Finding(
        test="cell size",
        statistic=float(median),
        threshold=float(config.min_treated),
        verdict="pass" if enough else "fail",
        meaning="Journeys with a touch of the cluster, in the median cell of bucket and cluster.",
        action="none" if enough else f"Collect about {needed:,} judge journeys.",
        blocks=None if enough else Blocking(reason=reason, verdict="inconclusive", journeys_needed=needed),
    )
