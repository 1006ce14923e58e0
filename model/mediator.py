"""The mediator prior m(content_l, x): what an item does to the response index, for a user with profile x.

    m = v · SiLU(W (q + k + q ∘ k)),   q = content, k = profile        (∘ lets profiles scale an item's effect)

It is identified only up to a function of x, so effects are read against reference content ref(x): the 20% quantile
of m(·, x) over a few catalogue items; the least inspiring content has no effect.
Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.content import ContentEncoder

REFERENCE_QUANTILE = 0.2


class MediatorPrior(nn.Module):
    """m(content, x). Shapes broadcast: content [B, L, .] or [1, I, .] against profile [B, 1, P]."""

    def __init__(self, *, clusters: int, content_dim: int, profile_dim: int, hidden: int, catalogue_items: int) -> None:
        super().__init__()
        self.encode = ContentEncoder(clusters, content_dim, hidden)
        self.profile = nn.Linear(profile_dim, hidden)
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))
        self.register_buffer("catalogue_cluster_I", torch.zeros(catalogue_items, dtype=torch.int64))
        self.register_buffer("catalogue_content_ID", torch.zeros(catalogue_items, content_dim))

    def forward(self, cluster_BL: Tensor, content_BLD: Tensor, profile_BP: Tensor) -> Tensor:
        q_BLH = self.encode(cluster_BL, content_BLD)
        k_B1H = self.profile(profile_BP)[:, None]
        return torch.as_tensor(self.head(q_BLH + k_B1H + q_BLH * k_B1H)[..., 0])

    def over_catalogue(self, profile_BP: Tensor) -> Tensor:
        """m of the reference catalogue for each profile. [B, P] -> [B, I]."""
        cluster_1I = self.get_buffer("catalogue_cluster_I")[None]
        content_1ID = self.get_buffer("catalogue_content_ID")[None]
        return self.forward(cluster_1I, content_1ID, profile_BP)

    def reference(self, profile_BP: Tensor) -> Tensor:
        """ref(x). [B, P] -> [B]. A sorted pick instead of torch.quantile, which ONNX cannot express."""
        m_BI = self.over_catalogue(profile_BP).sort(dim=1).values
        return m_BI[:, int(REFERENCE_QUANTILE * (m_BI.shape[1] - 1))]
