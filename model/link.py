"""How touches add up, and what their sum does to the logit.

    M = Σ_l Σ_k d_k(gap_l) u_lk     d(gap) = w e^{-gap·a₁} + (1−w) e^{-gap·a₂},   d(0) = 1, decreasing
    g(M) = κ_s tanh(M / κ_s)    slope 1 at 0; linear as 1/κ_s -> 0

Reference: ALM-MTA, arXiv 2605.08881; the saturating link keeps dense journeys from being over-credited.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


def inverse_softplus(value: float) -> float:
    return math.log(math.expm1(value))


class Decay(nn.Module):
    """d(gap)_k: mixtures of a fast and a slow exponential, learned. [B, L] -> [B, L, K]."""

    def __init__(self, dims: int = 1) -> None:
        super().__init__()
        rates = [inverse_softplus(1 / 12), inverse_softplus(1 / 96)]
        self.rate_K2 = nn.Parameter(torch.tensor(rates).repeat(dims, 1))
        self.mix_K = nn.Parameter(torch.zeros(dims))

    def forward(self, gap_hours_BL: Tensor) -> Tensor:
        fast_K, slow_K = softplus(self.rate_K2).unbind(1)
        w_K, gap_BL1 = torch.sigmoid(self.mix_K), gap_hours_BL[..., None]
        return w_K * torch.exp(-fast_K * gap_BL1) + (1 - w_K) * torch.exp(-slow_K * gap_BL1)


class SaturatingLink(nn.Module):
    """g(M) = κ_s tanh(M / κ_s) with 1/κ_s learned, bounded away from zero."""

    def __init__(self) -> None:
        super().__init__()
        self.curvature = nn.Parameter(torch.tensor(inverse_softplus(0.1)))

    def forward(self, M: Tensor) -> Tensor:
        inverse = softplus(self.curvature) + 1e-3
        return torch.tanh(M * inverse) / inverse
