"""The two heads over the backbone, and the match embedding.

    effect      e(T, x, n) = v · SiLU(A Σ_l a_l z_l + B x + C n + b),   a_l = σ(g · z_l)       a weighted sum of touches
    mediator    h_l = SiLU(W (z_l + k + z_l ∘ k)),  k = profile;   Ŷ'_l = σ(w · h_l)           from (T_l, x) alone
    match       q(T) = Σ_l π_l P z_l / |·|,   ω(τ, Y') = q · key of the upload

The effect head is additive before its activation, so that a bank journey is pooled once and met by any user.
Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, silu


class EffectHead(nn.Module):
    """Touch embeddings, profile and controls -> logit without the mediator."""

    def __init__(self, *, profile_dim: int, control_dim: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, 1)
        self.pool = nn.Linear(hidden, hidden)
        self.profile = nn.Linear(profile_dim, hidden, bias=False)
        self.control = nn.Linear(control_dim, hidden, bias=False)
        self.head = nn.Linear(hidden, 1)
        self.register_buffer("control_mean_C", torch.zeros(control_dim))
        self.register_buffer("control_sd_C", torch.ones(control_dim))

    def journey(self, z_BLH: Tensor, control_BC: Tensor) -> Tensor:
        """A Σ a z + C n, the journey's part of the pre-activation. [B, H]."""
        sum_BH = (torch.sigmoid(self.gate(z_BLH)) * z_BLH).sum(1)
        scaled_BC = torch.log1p(control_BC.clamp_min(0)) - self.get_buffer("control_mean_C")
        tame_BH = torch.sign(sum_BH) * torch.log1p(sum_BH.abs())  # long journeys stay on the scale of short ones
        return torch.as_tensor(self.pool(tame_BH) + self.control(scaled_BC / self.get_buffer("control_sd_C")))

    def forward(self, journey_H: Tensor, profile_P: Tensor) -> Tensor:
        """One journey's part and another's profile, broadcast against each other -> logit. [.., H], [.., P] -> [..]."""
        return torch.as_tensor(self.head(silu(journey_H + self.profile(profile_P)))[..., 0])


class MediatorHead(nn.Module):
    """Touch embeddings and profile -> mediator embedding h [B, L, H] and logit of Ŷ' [B, L]."""

    def __init__(self, *, profile_dim: int, hidden: int) -> None:
        super().__init__()
        self.profile = nn.Linear(profile_dim, hidden)
        self.mix = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU())
        self.head = nn.Linear(hidden, 1)

    def forward(self, z_BLH: Tensor, profile_BP: Tensor) -> tuple[Tensor, Tensor]:
        k_B1H = self.profile(profile_BP)[:, None]
        h_BLH = self.mix(z_BLH + k_B1H + z_BLH * k_B1H)
        return h_BLH, self.head(h_BLH)[..., 0]


def match_query(projected_BLE: Tensor, score_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """q(T): touches averaged with weights π = softmax(score), of length one. [B, L, E] -> [B, E]."""
    pi_BL = torch.softmax(score_BL.masked_fill(mask_BL == 0, -torch.inf), dim=1)
    return normalize((pi_BL[..., None] * projected_BLE).sum(1), dim=-1)
