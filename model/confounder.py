"""The confounder branch c(T, x, n): everything about the outcome that is not mediated.

    c = v · SiLU(A pool(T) + B x + C n + b),   pool = [mean, log-sum] of token(content_l, gap_l)

Tokens carry no x, so that a bank journey is pooled once and met by any user: c(T_j, x_i, n_j) costs one hidden
layer per pair. The same network alone, without a mediator, is the naive P(Y | T, x, n).
Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from model.batch import Treatment
from model.content import ContentEncoder


class ConfounderBranch(nn.Module):
    def __init__(self, *, clusters: int, content_dim: int, profile_dim: int, control_dim: int, hidden: int) -> None:
        super().__init__()
        self.encode = ContentEncoder(clusters, content_dim, hidden)
        self.gap = nn.Linear(2, hidden)
        self.token = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.treatment = nn.Linear(2 * hidden + 1, hidden)
        self.profile = nn.Linear(profile_dim, hidden, bias=False)
        self.control = nn.Linear(control_dim, hidden, bias=False)
        self.head = nn.Linear(hidden, 1)
        self.register_buffer("control_mean_C", torch.zeros(control_dim))
        self.register_buffer("control_sd_C", torch.ones(control_dim))

    def tokens(self, t: Treatment) -> Tensor:
        """One token a touch, 0 on padding. [B, L, H]."""
        gap_BL2 = torch.stack([torch.log1p(t.gap_hours_BL), torch.exp(-t.gap_hours_BL / 24)], -1)
        token_BLH = self.token(self.encode(t.cluster_BL, t.content_BLD) + self.gap(gap_BL2))
        return torch.as_tensor(token_BLH * t.mask_BL[..., None])

    def summarise(self, sum_H: Tensor, count_1: Tensor) -> Tensor:
        """Sum and number of tokens -> hidden pre-activation A pool(T). [.., H], [.., 1] -> [.., H]."""
        log_sum_H = torch.sign(sum_H) * torch.log1p(sum_H.abs())
        return torch.as_tensor(self.treatment(torch.cat([sum_H / count_1.clamp_min(1), log_sum_H, count_1 / 16], -1)))

    def pool(self, t: Treatment) -> Tensor:
        """Treatment -> hidden pre-activation A pool(T). [B, H]."""
        return self.summarise(self.tokens(t).sum(1), t.mask_BL.sum(1, keepdim=True))

    def controls(self, control_BC: Tensor) -> Tensor:
        """Controls -> hidden pre-activation C n. [B, H]."""
        scaled = torch.log1p(control_BC.clamp_min(0)) - self.get_buffer("control_mean_C")
        return torch.as_tensor(self.control(scaled / self.get_buffer("control_sd_C")))

    def logit(self, treatment_H: Tensor, profile_H: Tensor, control_H: Tensor) -> Tensor:
        """Hidden pre-activations, broadcast against each other -> c. [.., H] -> [..]."""
        return torch.as_tensor(self.head(silu(treatment_H + profile_H + control_H))[..., 0])

    def forward(self, t: Treatment, profile_BP: Tensor, control_BC: Tensor) -> Tensor:
        return self.logit(self.pool(t), self.profile(profile_BP), self.controls(control_BC))
