"""The mediator prior m(content_l, x) ∈ R^K: what an item does to the response index, for a user with profile x.

    m = mean_e m_e,   m_e = V SiLU(W₂ SiLU(W₁ (q + k + q ∘ k))),   q = content, k = profile

∘ lets profiles scale an item's effect. E members of one shape and different initial weights are fitted side by side:
their mean is steadier than any of them, their spread is part of a credit's standard error. m is identified only up to
a function of x, so effects are read against reference content ref(x): the 20% quantile of m(·, x) over a few catalogue
items; the least inspiring content has no effect.
References: ALM-MTA (ICLR 2026), arXiv 2605.08881; Lakshminarayanan et al. (2017), "Simple and scalable predictive
uncertainty estimation using deep ensembles", NeurIPS 30.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.content import ContentEncoder

REFERENCE_QUANTILE = 0.2


class PriorMember(nn.Module):
    """One network (content, x) -> R^K. Shapes broadcast: content [B, L, .] or [1, I, .] against profile [B, P]."""

    def __init__(self, *, clusters: int, content_dim: int, profile_dim: int, hidden: int, dims: int) -> None:
        super().__init__()
        self.encode = ContentEncoder(clusters, content_dim, hidden)
        self.profile = nn.Linear(profile_dim, hidden)
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, dims))

    def forward(self, cluster_BL: Tensor, content_BLD: Tensor, profile_BP: Tensor) -> Tensor:
        q_BLH = self.encode(cluster_BL, content_BLD)
        k_B1H = self.profile(profile_BP)[:, None]
        return torch.as_tensor(self.head(q_BLH * (1 + k_B1H) + k_B1H))


class MediatorPrior(nn.Module):
    """All members, and the reference catalogue."""

    def __init__(
        self, *, clusters: int, content_dim: int, profile_dim: int, hidden: int, dims: int, members: int,
        catalogue_items: int,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = {"clusters": clusters, "content_dim": content_dim, "profile_dim": profile_dim, "hidden": hidden}
        self.members = nn.ModuleList(PriorMember(**shape, dims=dims) for _ in range(members))
        self.register_buffer("catalogue_cluster_I", torch.zeros(catalogue_items, dtype=torch.int64))
        self.register_buffer("catalogue_content_ID", torch.zeros(catalogue_items, content_dim))

    def forward(self, cluster_BL: Tensor, content_BLD: Tensor, profile_BP: Tensor) -> Tensor:
        """m of every member. [E, B, L, K]."""
        return torch.stack([member(cluster_BL, content_BLD, profile_BP) for member in self.members])

    def reference(self, profile_BP: Tensor) -> Tensor:
        """ref(x) of every member. [B, P] -> [E, B, K]."""
        return quantile(self.over_catalogue(profile_BP).sort(dim=2).values, REFERENCE_QUANTILE)

    def over_catalogue(self, profile_BP: Tensor) -> Tensor:
        """m of the reference catalogue for each profile. [B, P] -> [E, B, I, K]."""
        cluster_1I = self.get_buffer("catalogue_cluster_I")[None]
        content_1ID = self.get_buffer("catalogue_content_ID")[None]
        return self.forward(cluster_1I, content_1ID, profile_BP)


def quantile(sorted_IK: Tensor, q: float) -> Tensor:
    """The item at quantile q of sorted values. [.., I, K] -> [.., K]. A pick: ONNX cannot express torch.quantile."""
    return sorted_IK[..., int(q * (sorted_IK.shape[-2] - 1)), :]
