"""How touches add up, and what their sum does to the logit.

    M = Σ_l d(gap_l) u_l        d(gap) = w e^{-gap·a₁} + (1−w) e^{-gap·a₂},   d(0) = 1, decreasing
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
    """d(gap): a mixture of a fast and a slow exponential, learned."""

    def __init__(self) -> None:
        super().__init__()
        self.rate_2 = nn.Parameter(torch.tensor([inverse_softplus(1 / 12), inverse_softplus(1 / 96)]))
        self.mix = nn.Parameter(torch.zeros(()))

    def forward(self, gap_hours_BL: Tensor) -> Tensor:
        fast, slow = softplus(self.rate_2)
        w = torch.sigmoid(self.mix)
        return w * torch.exp(-fast * gap_hours_BL) + (1 - w) * torch.exp(-slow * gap_hours_BL)


class SaturatingLink(nn.Module):
    """g(M) = κ_s tanh(M / κ_s) with 1/κ_s learned, bounded away from zero."""

    def __init__(self) -> None:
        super().__init__()
        self.curvature = nn.Parameter(torch.tensor(inverse_softplus(0.1)))

    def forward(self, M: Tensor) -> Tensor:
        inverse = softplus(self.curvature) + 1e-3
        return torch.tanh(M * inverse) / inverse
