"""Pooling a treatment: A pool(T), pool = [mean, log-sum] of token(content_l, gap_l), and the number of touches.

With attention heads the tokens of a journey first pass one transformer layer (Vaswani et al., 2017): order and
combinations of touches can then confound. Tokens carry no x, so that a bank journey is pooled once and met by any user.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.batch import Treatment
from model.content import ContentEncoder


class TreatmentPool(nn.Module):
    """Treatment -> hidden pre-activation. [B, L, ..] -> [B, H]."""

    def __init__(self, *, clusters: int, content_dim: int, hidden: int, attention_heads: int = 0) -> None:
        super().__init__()
        self.encode = ContentEncoder(clusters, content_dim, hidden)
        self.gap = nn.Linear(2, hidden)
        self.token = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.attention = (
            nn.TransformerEncoderLayer(hidden, attention_heads, 2 * hidden, dropout=0.0, batch_first=True)
            if attention_heads
            else None
        )
        self.head = nn.Linear(2 * hidden + 1, hidden)

    def tokens(self, t: Treatment) -> Tensor:
        """One token a touch, 0 on padding. [B, L, H]."""
        gap_BL2 = torch.stack([torch.log1p(t.gap_hours_BL), torch.exp(-t.gap_hours_BL / 24)], -1)
        token_BLH = self.token(self.encode(t.cluster_BL, t.content_BLD) + self.gap(gap_BL2))
        if self.attention is not None:
            token_BLH = self.attention(token_BLH, src_key_padding_mask=t.mask_BL == 0)
        return torch.as_tensor(token_BLH * t.mask_BL[..., None])

    def summarise(self, sum_H: Tensor, count_1: Tensor) -> Tensor:
        """Sum and number of tokens -> A pool(T). [.., H], [.., 1] -> [.., H]."""
        log_sum_H = torch.sign(sum_H) * torch.log1p(sum_H.abs())
        return torch.as_tensor(self.head(torch.cat([sum_H / count_1.clamp_min(1), log_sum_H, count_1 / 16], -1)))

    def forward(self, t: Treatment) -> Tensor:
        return self.summarise(self.tokens(t).sum(1), t.mask_BL.sum(1, keepdim=True))
