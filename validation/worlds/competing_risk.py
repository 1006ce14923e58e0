"""The competing-risk world: every touch is a chance of its own, larger for those who mean to create.

    P(Y=1) = 1 − exp(−H),   H = exp(b + ρ·W + x·δ) + γ·Σ_l d(gap_l) m_l · exp(η·W)
    m_l ~ Gamma(shape k, mean m̄_l) ≥ 0

The truth integrates the mediator in closed form, E exp(−c·m) = (1 + c·m̄/k)^(−k), and W by quadrature:
P(Y=1|do T, x) = 1 − E_W[exp(−exp(b + ρW + x·δ)) Π_l (1 + γ d_l exp(ηW) m̄_l / k)^(−k)].
Reference: Prentice et al. (1978), "The analysis of failure times in the presence of competing risks".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.errors import ConfigError
from validation.worlds.base import Floats, Sessions, Truth, World
from validation.worlds.quadrature import normal_nodes


@dataclass(frozen=True, kw_only=True)
class CompetingRiskWorld(World):
    """Hazards add, and W multiplies what content does; `mediator_noise` has no part in it."""

    effect_scale: float = 0.012
    """γ, hazard of an upload per unit of mediator."""
    effect_mean: float = 0.25
    """Mean of β over clusters: what one touch of a cluster adds to the mediator."""
    mediator_shape: float = 1.0
    """k, shape of one touch's gamma-distributed inspiration; 1 is exponential."""
    modification: float = 0.5
    """η, effect of W on the log hazard of content."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mediator_shape <= 0 or self.effect_scale < 0 or self.effect_mean < 0:
            raise ConfigError(
                f"world: mediator_shape = {self.mediator_shape}, effect_scale = {self.effect_scale}, "
                f"effect_mean = {self.effect_mean}: hazards are not negative and shapes are positive"
            )

    @property
    def confounded(self) -> bool:
        return self.affinity != 0 and (self.confounding, self.modification) != (0, 0) and self.randomised_share < 1

    def draw_mediator(self, mean_USL: Floats, rng: np.random.Generator) -> Floats:
        return np.asarray(mean_USL / self.mediator_shape * rng.standard_gamma(self.mediator_shape, mean_USL.shape))

    def upload_probability(self, intercept: float, sessions: Sessions) -> Floats:
        s, w_U1 = sessions, sessions.w_U[:, None]
        content_US = self.effect_scale * (s.decay_USL * s.mediator_USL).sum(-1)
        hazard_US = np.exp(intercept + s.base_US + self.confounding * w_U1)
        return np.asarray(-np.expm1(-hazard_US - content_US * np.exp(self.modification * w_U1)))

    def truth(self, intercept: float, sessions: Sessions) -> Truth:
        s, k = sessions, self.mediator_shape
        scale_USL = self.effect_scale * s.decay_USL * s.mean_USL / k
        p_do_US1 = np.zeros((*s.base_US.shape, 1))
        p_without_USL = np.zeros(scale_USL.shape)
        p_none_US1 = np.zeros(p_do_US1.shape)
        for w, weight in normal_nodes():
            base_US1 = -np.exp(intercept + s.base_US + self.confounding * w)[..., None]
            content_USL = -k * np.log1p(np.exp(self.modification * w) * scale_USL)
            all_US1 = base_US1 + content_USL.sum(-1, keepdims=True)
            p_do_US1 -= weight * np.expm1(all_US1)
            p_without_USL -= weight * np.expm1(all_US1 - content_USL)
            p_none_US1 -= weight * np.expm1(base_US1)
        return Truth(p_do_US=p_do_US1[..., 0], p_without_USL=p_without_USL, p_none_US=p_none_US1[..., 0])
