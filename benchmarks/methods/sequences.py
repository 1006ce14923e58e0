"""What the recurrent peers share: touches as vectors, and journeys with one touch taken out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor, nn

from model.batch import JourneyBatch, Treatment
from model.content import ContentEncoder
from model.front_door import Sizes

HIDDEN = 16


class TouchEncoder(nn.Module):
    """Cluster, content and age of every touch -> vectors. [B, L, H]."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.content = ContentEncoder(sizes.clusters, sizes.content_dim, HIDDEN)
        self.gap = nn.Linear(1, HIDDEN, bias=False)

    def forward(self, t: Treatment) -> Tensor:
        token_BLH = self.content(t.cluster_BL, t.content_BLD) + self.gap(torch.log1p(t.gap_hours_BL)[..., None])
        return torch.as_tensor(torch.tanh(token_BLH) * t.mask_BL[..., None])


def masked_softmax(score_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Softmax over the touches; all 0 where there are none. [B, L]."""
    score_BL = torch.where(mask_BL > 0, score_BL, -1e9)
    weight_BL = torch.exp(score_BL - score_BL.max(1, keepdim=True).values) * mask_BL
    return weight_BL / weight_BL.sum(1, keepdim=True).clamp_min(1e-12)


def removal(probability: Callable[[Treatment, Tensor], Tensor], batch: JourneyBatch) -> Tensor:
    """P(Y | T, z) − P(Y | T∖τ_l, z) of every touch, the ones after it moving up. [B, L]."""
    t, (B, L) = batch.treatment, batch.treatment.mask_BL.shape
    row_N, removed_N = t.mask_BL.nonzero(as_tuple=True)
    step_L = torch.arange(L)
    # The removed touch goes last and is masked there, so that a journey of one touch keeps its length.
    source_NL = torch.where(step_L < removed_N[:, None], step_L, step_L + 1).clamp_max(L - 1)
    without = {field.name: getattr(t, field.name)[row_N[:, None], source_NL] for field in fields(Treatment)}
    without["mask_BL"] = without["mask_BL"] * (step_L < L - 1)
    p_B, p_without_N = probability(t, batch.profile_BP), probability(Treatment(**without), batch.profile_BP[row_N])
    delta_BL = torch.zeros(B, L)
    delta_BL[row_N, removed_N] = p_B[row_N] - p_without_N
    return delta_BL
