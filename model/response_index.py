"""The response index u_l = h_w(logit(watch_l) / 2) + h_f(flags_l) ∈ R^K.

It reads responses only, never content or profile (the exclusion that makes the front door work), and is monotone
in watch time, which anchors its sign. Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

WATCH = "watch_ratio"


class MonotoneCurve(nn.Module):
    """h_w(z)_k = a₀ z + Σ_q a_q tanh(b_q z + c_q) with a, b > 0. [..] -> [.., K]."""

    def __init__(self, dims: int, knots: int = 6) -> None:
        super().__init__()
        self.slope_K = nn.Parameter(torch.full((dims,), -1.5))
        self.height_KQ = nn.Parameter(torch.full((dims, knots), -3.0))
        self.steepness_KQ = nn.Parameter(torch.zeros(dims, knots))
        self.shift_KQ = nn.Parameter(torch.linspace(-1.5, 1.5, knots).repeat(dims, 1))

    def forward(self, z: Tensor) -> Tensor:
        bends = torch.tanh(softplus(self.steepness_KQ) * z[..., None, None] + self.shift_KQ)
        return softplus(self.slope_K) * z[..., None] + (softplus(self.height_KQ) * bends).sum(-1)


class ResponseIndex(nn.Module):
    """Responses of one touch -> K numbers on the logit scale. [B, L, R] -> [B, L, K]."""

    def __init__(self, responses: tuple[str, ...], dims: int, hidden: int = 8, ignored: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.dims = dims
        self.watch = responses.index(WATCH) if WATCH in responses and WATCH not in ignored else None
        self.flags = [r for r, name in enumerate(responses) if name != WATCH and name not in ignored]
        self.register_buffer("watch_fill", torch.tensor(0.5))
        self.h_watch = MonotoneCurve(dims) if self.watch is not None else None
        self.h_flags = (
            nn.Sequential(nn.Linear(len(self.flags), hidden), nn.Tanh(), nn.Linear(hidden, dims, bias=False))
            if self.flags
            else None
        )

    def forward(self, response_BLR: Tensor) -> Tensor:
        watch_BLK, flags_BLK = self.groups(response_BLR)
        return watch_BLK + flags_BLK

    def groups(self, response_BLR: Tensor) -> tuple[Tensor, Tensor]:
        """The watch part and the flags' part of u: two measurements of one mediator. [B, L, K] twice."""
        watch_BLK = flags_BLK = response_BLR.new_zeros((*response_BLR.shape[:2], self.dims))
        if self.h_watch is not None:
            watch_BL = response_BLR[..., self.watch]
            watch_BL = torch.where(watch_BL.isnan(), self.get_buffer("watch_fill"), watch_BL)
            watch_BLK = self.h_watch(torch.logit(watch_BL, eps=1e-3) / 2)
        if self.h_flags is not None:
            flags_BLK = self.h_flags(response_BLR[..., self.flags].nan_to_num(0.0))
        return watch_BLK, flags_BLK

    def observed(self, response_BLR: Tensor) -> Tensor:
        """1 where a response that the index reads is known, 0 where none is. [B, L, R] -> [B, L]."""
        read = ([] if self.watch is None else [self.watch]) + self.flags
        return (~response_BLR[..., read].isnan()).any(-1).to(response_BLR.dtype)

    @torch.no_grad()
    def fill_missing_with(self, response_NR: Tensor) -> None:
        """Take an unobserved watch ratio as the median of these; an unobserved flag counts as not set."""
        if self.watch is not None and not response_NR[:, self.watch].isnan().all():
            self.get_buffer("watch_fill").copy_(response_NR[:, self.watch].nanmedian())
