"""The backbone that all heads share: one embedding a touchpoint.

    z_l = SiLU(W SiLU(content_l + cluster_l + G gap_l))

Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.batch import Treatment
from model.content import ContentEncoder


class Backbone(nn.Module):
    """Treatment -> touch embeddings, 0 on padding. [B, L, ..] -> [B, L, H]."""

    def __init__(self, *, clusters: int, content_dim: int, hidden: int) -> None:
        super().__init__()
        self.unknown_cluster = clusters
        self.encode = ContentEncoder(clusters, content_dim, hidden)
        self.gap = nn.Linear(2, hidden)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())

    def forward(self, t: Treatment) -> Tensor:
        gap_BL2 = torch.stack([torch.log1p(t.gap_hours_BL), torch.exp(-t.gap_hours_BL / 24)], -1)
        z_BLH = self.mix(self.encode(t.cluster_BL, t.content_BLD) + self.gap(gap_BL2))
        return torch.as_tensor(z_BLH * t.mask_BL[..., None])

    def of_upload(self, upload_BD: Tensor) -> Tensor:
        """The upload as a touch of itself: of no known cluster, seen just now. [B, D] -> [B, H]."""
        now_B1 = upload_BD.new_zeros(len(upload_BD), 1)
        touch = Treatment(
            cluster_BL=now_B1.long() + self.unknown_cluster,
            content_BLD=upload_BD[:, None],
            gap_hours_BL=now_B1,
            mask_BL=torch.ones_like(now_B1),
        )
        return self.forward(touch)[:, 0]
