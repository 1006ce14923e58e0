"""The logit world: content adds up on the upload's logit.

    logit P(Y=1) = b + γ·M + ρ·W + x·δ,   M = Σ_l d(gap_l) m_l

The truth averages over W and over the mediator's noise at once, both being normal:
P(Y=1|do T, x) = E_z[σ(b + x·δ + γ Σ d m̄ + z·√(ρ² + γ² Σ d² σ_m²))].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from validation.worlds.base import Floats, Sessions, Truth, World
from validation.worlds.quadrature import mean_sigmoid


@dataclass(frozen=True, kw_only=True)
class LogitWorld(World):
    """Effects act on the logit scale and add up."""

    def upload_probability(self, intercept: float, sessions: Sessions) -> Floats:
        s = sessions
        content_US = (self.effect_scale * s.decay_USL * s.mediator_USL + s.direct_USL).sum(-1)
        return np.asarray(expit(intercept + s.base_US + content_US + self.confounding * s.w_U[:, None]))

    def truth(self, intercept: float, sessions: Sessions) -> Truth:
        s = sessions
        weight_USL = self.effect_scale * s.decay_USL
        content_USL = weight_USL * s.mean_USL + s.direct_USL
        noise_USL = (weight_USL * self.mediator_noise) ** 2
        logit_US1 = intercept + s.base_US[..., None] + content_USL.sum(-1, keepdims=True)
        variance_US1 = self.confounding**2 + noise_USL.sum(-1, keepdims=True)
        return Truth(
            p_do_US=mean_sigmoid(logit_US1, variance_US1)[..., 0],
            p_without_USL=mean_sigmoid(logit_US1 - content_USL, np.maximum(variance_US1 - noise_USL, 0.0)),
            p_none_US=mean_sigmoid(intercept + s.base_US, self.confounding**2),
        )
