"""The direct-path world: content also acts past the mediator, where no response sees it.

    logit P(Y=1) = b + Σ_l d(gap_l) (γ·m_l + ψ_k(l)) + ρ·W + x·δ,   ψ_k ~ Normal(0, direct_effect²)

ψ is independent of β, and the truth counts it: the front door is violated on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from validation.worlds.base import Constants
from validation.worlds.logit import LogitWorld


@dataclass(frozen=True, kw_only=True)
class DirectPathWorld(LogitWorld):
    """Part of every touch's effect goes past the mediator."""

    direct_effect: float = 0.10
    """Standard deviation over clusters of ψ, on the logit."""

    @property
    def front_door_holds(self) -> bool:
        return self.direct_effect == 0

    def vary(self, constants: Constants, rng: np.random.Generator) -> Constants:
        return replace(constants, psi_K=self.direct_effect * rng.standard_normal(self.clusters))
