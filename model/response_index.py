"""The response index u_l = h_w(logit(watch_l) / 2) + h_f(flags_l).

It reads responses only, never content or profile (the exclusion that makes the front door work), and is monotone
in watch time, which anchors its sign. Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

WATCH = "watch_ratio"


class MonotoneCurve(nn.Module):
    """h_w(z) = a₀ z + Σ_k a_k tanh(b_k z + c_k) with a, b > 0."""

    def __init__(self, knots: int = 6) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(-1.5))
        self.height_K = nn.Parameter(torch.full((knots,), -3.0))
        self.steepness_K = nn.Parameter(torch.zeros(knots))
        self.shift_K = nn.Parameter(torch.linspace(-1.5, 1.5, knots))

    def forward(self, z: Tensor) -> Tensor:
        bends = torch.tanh(softplus(self.steepness_K) * z[..., None] + self.shift_K)
        return softplus(self.slope) * z + (softplus(self.height_K) * bends).sum(-1)


class ResponseIndex(nn.Module):
    """Responses of one touch -> one number on the logit scale. [B, L, R] -> [B, L]."""

    def __init__(self, responses: tuple[str, ...], hidden: int = 8) -> None:
        super().__init__()
        self.watch = responses.index(WATCH) if WATCH in responses else None
        self.flags = [r for r, name in enumerate(responses) if name != WATCH]
        self.register_buffer("watch_fill", torch.tensor(0.5))
        self.h_watch = MonotoneCurve() if self.watch is not None else None
        self.h_flags = (
            nn.Sequential(nn.Linear(len(self.flags), hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))
            if self.flags
            else None
        )

    def forward(self, response_BLR: Tensor) -> Tensor:
        u_BL = response_BLR.new_zeros(response_BLR.shape[:2])
        if self.h_watch is not None:
            watch_BL = response_BLR[..., self.watch]
            watch_BL = torch.where(watch_BL.isnan(), self.get_buffer("watch_fill"), watch_BL)
            u_BL = u_BL + self.h_watch(torch.logit(watch_BL, eps=1e-3) / 2)
        if self.h_flags is not None:
            u_BL = u_BL + self.h_flags(response_BLR[..., self.flags].nan_to_num(0.0))[..., 0]
        return u_BL

    @torch.no_grad()
    def fill_missing_with(self, response_NR: Tensor) -> None:
        """Take an unobserved watch ratio as the median of these; an unobserved flag counts as not set."""
        if self.watch is not None and not response_NR[:, self.watch].isnan().all():
            self.get_buffer("watch_fill").copy_(response_NR[:, self.watch].nanmedian())
