"""The adversary: a discriminator that must fail to tell y from the mediator embedding.

    forward  R(h) = h,      backward  ∂R/∂h = −λ I,       λ(p) = λ (2 / (1 + exp(−10 p)) − 1) over progress p in [0, 1]

Reference: Ganin & Lempitsky (2015), "Unsupervised domain adaptation by backpropagation".
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return h.view_as(h)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(h: Tensor, strength: float) -> Tensor:
    """h, whose gradient comes back times −strength."""
    return torch.as_tensor(_Reversal.apply(h, strength))  # type: ignore[no-untyped-call]


def ramp(progress: float) -> float:
    """From 0 at the start of training towards 1, so that the discriminator learns before it is fought."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


class Discriminator(nn.Module):
    """Mediator embedding -> logit of y. [B, H] -> [B]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, h_BH: Tensor) -> Tensor:
        return torch.as_tensor(self.layers(h_BH)[..., 0])
