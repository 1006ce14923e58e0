"""The confounder branch c(T, x, n): everything about the outcome that is not mediated.

    c = v · SiLU(A pool(T) + B x + C n + D s + b)

s = the level of response that the user's earlier touches show (model/denoise.py), a measurement of hidden intent.
Additive before the activation, so that c(T_j, x_i, n_j) costs one hidden layer per pair of bank journey and user.
Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from model.batch import Treatment
from model.treatment import TreatmentPool


class ConfounderBranch(nn.Module):
    def __init__(
        self, *, clusters: int, content_dim: int, profile_dim: int, control_dim: int, hidden: int,
        dims: int = 1, attention_heads: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pool = TreatmentPool(
            clusters=clusters, content_dim=content_dim, hidden=hidden, attention_heads=attention_heads
        )
        self.profile = nn.Linear(profile_dim, hidden, bias=False)
        self.control = nn.Linear(control_dim, hidden, bias=False)
        self.level = nn.Linear(dims, hidden, bias=False)
        nn.init.zeros_(self.level.weight)
        self.head = nn.Linear(hidden, 1)
        self.register_buffer("control_mean_C", torch.zeros(control_dim))
        self.register_buffer("control_sd_C", torch.ones(control_dim))

    def controls(self, control_BC: Tensor) -> Tensor:
        """Controls -> hidden pre-activation C n. [B, H]."""
        scaled = torch.log1p(control_BC.clamp_min(0)) - self.get_buffer("control_mean_C")
        return torch.as_tensor(self.control(scaled / self.get_buffer("control_sd_C")))

    def logit(self, bank_H: Tensor, profile_H: Tensor) -> Tensor:
        """A pool(T) + C n of one journey and B x of another, broadcast against each other -> c. [.., H] -> [..]."""
        return torch.as_tensor(self.head(silu(bank_H + profile_H))[..., 0])

    def forward(self, t: Treatment, profile_BP: Tensor, control_BC: Tensor) -> Tensor:
        return self.logit(self.pool(t) + self.controls(control_BC), self.profile(profile_BP))
