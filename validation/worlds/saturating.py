"""The saturating world: many inspiring touches add little to a few.

    logit P(Y=1) = b + γ·κ_s·tanh(M/κ_s) + ρ·W + x·δ,   M = Σ_l d(gap_l) m_l

The truth is the expectation over M ~ Normal(Σ d m̄, Σ d² σ_m²) of F(b + x·δ + γ·κ_s·tanh(M/κ_s)), with
F(a) = E_W[σ(a + ρW)] tabulated once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from features.errors import ConfigError
from validation.worlds.base import Floats, Sessions, Truth, World
from validation.worlds.quadrature import SigmoidTable, mean_sigmoid, normal_nodes


@dataclass(frozen=True, kw_only=True)
class SaturatingWorld(World):
    """Effects act through a link that levels off."""

    saturation: float = 2.0
    """κ_s, the most that content can add to the logit, in units of γ."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.saturation <= 0:
            raise ConfigError(f"world: saturation = {self.saturation}: need a positive number")

    def link(self, mediator: Floats) -> Floats:
        """γ·κ_s·tanh(M/κ_s)."""
        return np.asarray(self.effect_scale * self.saturation * np.tanh(mediator / self.saturation))

    def upload_probability(self, intercept: float, sessions: Sessions) -> Floats:
        s = sessions
        content_US = self.link((s.decay_USL * s.mediator_USL).sum(-1))
        return np.asarray(expit(intercept + s.base_US + content_US + self.confounding * s.w_U[:, None]))

    def truth(self, intercept: float, sessions: Sessions) -> Truth:
        s = sessions
        base_US1 = intercept + s.base_US[..., None]
        content_USL = s.decay_USL * s.mean_USL
        noise_USL = (s.decay_USL * self.mediator_noise) ** 2
        total_US1, noise_US1 = content_USL.sum(-1, keepdims=True), noise_USL.sum(-1, keepdims=True)
        reach = abs(self.effect_scale) * self.saturation
        given_w = SigmoidTable(base_US1.min() - reach, base_US1.max() + reach, self.confounding)
        return Truth(
            p_do_US=self._average(given_w, base_US1, total_US1, noise_US1)[..., 0],
            p_without_USL=self._average(
                given_w, base_US1, total_US1 - content_USL, np.maximum(noise_US1 - noise_USL, 0.0)
            ),
            p_none_US=mean_sigmoid(base_US1[..., 0], self.confounding**2),
        )

    def _average(self, given_w: SigmoidTable, base: Floats, mean: Floats, variance: Floats) -> Floats:
        """E over M ~ Normal(mean, variance)."""
        sd, total = np.sqrt(variance), np.zeros(mean.shape)
        for z, weight in normal_nodes():
            total += weight * given_w(base + self.link(mean + sd * z))
        return total
