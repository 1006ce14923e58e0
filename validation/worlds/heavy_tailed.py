"""The heavy-tailed world: a few clusters do nearly everything, some of them harm.

β_k = effect_mean · s · t_k,   t_k ~ Student t with ν degrees of freedom, |t_k| ≤ cap
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from validation.worlds.base import Floats
from validation.worlds.logit import LogitWorld


@dataclass(frozen=True, kw_only=True)
class HeavyTailedWorld(LogitWorld):
    """Effects of clusters are symmetric about 0 with heavy tails; `effect_shape` has no part in it."""

    tail_df: float = 3.0
    """ν; 3 is heavy, 2 very heavy."""
    tail_scale: float = 0.7
    """s, in units of `effect_mean`; 1.2 goes with very heavy."""
    tail_cap: float = 12.0
    """Bound of |t|: a single draw of hundreds would decide every upload."""

    def draw_effects(self, rng: np.random.Generator) -> Floats:
        t_K = np.clip(rng.standard_t(self.tail_df, self.clusters), -self.tail_cap, self.tail_cap)
        return np.asarray(self.effect_mean * self.tail_scale * t_K)
