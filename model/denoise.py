"""The denoised mediator: responses measure the mediator with error, and hidden intent moves all of a user's responses.

Of touch l in journey j, u_l − r = (m_l − ref(x)) + ε_l, and the residual ε has three parts: the mediator's own
variation (wanted), response noise, and a level that hidden intent adds to everything the user responds to.

    û_l = m_l − ref(x) + ρ [ε_l − ε̄_j + w_j (ε̄_j − s_j)]

    ρ = σ_η² / v               reliability: share of the within-journey residual variance v that two disjoint groups of
                               responses have in common
    s_j = h_j τ² / (τ² + v/n_j)        level of the user's n_j earlier touches, whose mean residual is h_j
    w_j = (v/L_j) / (v/L_j + τ² − τ⁴/(τ² + v/n_j))     how much of what is left of the journey's mean is not level
    τ² = var(ε̄_j) − v / L_j            between-journey variance beyond what the touches explain

Means are over touches with a response; of one without, û_l = m_l − ref(x). These are the best linear predictors under
independent parts (empirical Bayes). Without them the outcome's slope on u is attenuated by the noise, and hidden intent
passes through the saturating link. References: Carroll et al. (2006), "Measurement error in nonlinear models", ch. 4
(regression calibration); Efron & Morris (1973), JASA 68(341).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.batch import Evidence, JourneyBatch


class Denoiser(nn.Module):
    """û from a batch's evidence; as built it changes nothing (ρ = 1, τ² = 0)."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.register_buffer("reliability_K", torch.ones(dims))
        self.register_buffer("within_variance_K", torch.ones(dims))
        self.register_buffer("level_variance_K", torch.zeros(dims))

    def forward(self, batch: JourneyBatch) -> Tensor:
        """û. [B, L, K], 0 on padding."""
        seen = _evidence(batch)
        observed_BL1 = seen.observed_BL[..., None]
        touches_B1 = observed_BL1.sum(1).clamp_min(1)
        mean_B1K = (seen.residual_BLK.sum(1) / touches_B1)[:, None]
        unshifted_B1K = self._weight(seen, touches_B1)[:, None] * (mean_B1K - self._shrunk(seen)[:, None])
        kept_BLK = self.get_buffer("reliability_K") * (seen.residual_BLK - mean_B1K + unshifted_B1K)
        return torch.as_tensor(seen.mediator_BLK + kept_BLK * observed_BL1)

    def level(self, batch: JourneyBatch) -> Tensor:
        """s_j in standard deviations of the level, for the confounder branch. [B, K]."""
        sd_K = self.get_buffer("level_variance_K").clamp_min(1e-8).sqrt()
        return self._shrunk(_evidence(batch)) / sd_K

    def _shrunk(self, seen: Evidence) -> Tensor:
        """s_j. [B, K]."""
        return seen.history_BK * self._known(seen)

    def _known(self, seen: Evidence) -> Tensor:
        """τ² / (τ² + v/n_j): share of the level's variance that the user's history tells. [B, K]."""
        tau_K, n_B1 = self.get_buffer("level_variance_K"), seen.earlier_B[:, None]
        return n_B1 * tau_K / (n_B1 * tau_K + self.get_buffer("within_variance_K")).clamp_min(1e-12)

    def _weight(self, seen: Evidence, touches_B1: Tensor) -> Tensor:
        """w_j. [B, K]."""
        own_BK = self.get_buffer("within_variance_K") / touches_B1
        return own_BK / (own_BK + self.get_buffer("level_variance_K") * (1 - self._known(seen))).clamp_min(1e-12)


def _evidence(batch: JourneyBatch) -> Evidence:
    assert batch.evidence is not None, "batches of a table that went through with_evidence"
    return batch.evidence
