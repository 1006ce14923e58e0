"""The drift world: what is popular, whom intent leads where and how much is uploaded change from week to week.

    t_s = s / (S − 1)                                    session s = 0 .. S−1, as a share of the logs
    pop_i(s) = pop_i + drift · t_s · normal_i
    κ_k(s)   = κ_k cos θ_s + κ'_k sin θ_s,               θ_s = drift · t_s · π/2
    b(s)     = b + drift · t_s

What content does stays the same. A model is fitted on the sessions before `test_from_day` and tested on later ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.errors import ConfigError
from validation.worlds.base import FIRST_SESSION_DAY, SESSION_SPACING_DAYS, Constants
from validation.worlds.logit import LogitWorld


@dataclass(frozen=True, kw_only=True)
class DriftWorld(LogitWorld):
    """Exposure and base rate drift; effects do not."""

    drift: float = 0.6
    """How far the last session is from the first; 0 is none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sessions < 2:
            raise ConfigError(f"world: sessions = {self.sessions}: drift needs an earlier and a later one")

    @property
    def test_from_day(self) -> float | None:
        return FIRST_SESSION_DAY + SESSION_SPACING_DAYS * (self.sessions // 2 - 0.5)

    def vary(self, constants: Constants, rng: np.random.Generator) -> Constants:
        time_S1 = self.drift * np.linspace(0.0, 1.0, self.sessions)[:, None]
        other_K = rng.standard_normal(self.clusters)
        other_K = (other_K - other_K.mean()) / other_K.std()
        angle_S1 = time_S1 * np.pi / 2
        return replace(
            constants,
            popularity_SI=constants.popularity_SI + time_S1 * rng.standard_normal(constants.popularity_SI.shape[1]),
            kappa_SK=constants.kappa_SK * np.cos(angle_S1) + other_K * np.sin(angle_S1),
            shift_S=time_S1[:, 0],
        )
