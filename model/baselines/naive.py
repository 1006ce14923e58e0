"""Naive leave-one-out: Δ_l = P(Y=1 | T, x) − P(Y=1 | T∖τ_l, x), with no regard to hidden intent.

    logit P(Y=1 | T, x) = v · SiLU(A pool(T) + B x + b)

What a deep attribution model without identification computes; it stands beside every credit as the thing to beat.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from model.batch import JourneyBatch
from model.front_door import Sizes
from model.settings import ModelConfig
from model.treatment import TreatmentPool


class NaiveModel(nn.Module):
    def __init__(self, config: ModelConfig, sizes: Sizes) -> None:
        super().__init__()
        self.pool = TreatmentPool(clusters=sizes.clusters, content_dim=sizes.content_dim, hidden=config.hidden)
        self.profile = nn.Linear(sizes.profile_dim, config.hidden, bias=False)
        self.head = nn.Linear(config.hidden, 1)

    def logit(self, treatment_H: Tensor, profile_H: Tensor) -> Tensor:
        return torch.as_tensor(self.head(silu(treatment_H + profile_H))[..., 0])

    def forward(self, batch: JourneyBatch) -> Tensor:
        return self.logit(self.pool(batch.treatment), self.profile(batch.profile_BP))


def leave_one_out(model: NaiveModel, batch: JourneyBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Δ of every touch [B, L], P(Y | T, x) [B] and P(Y | no touches, x) [B]."""
    mask_BL, user_B1H = batch.treatment.mask_BL, model.profile(batch.profile_BP)[:, None]
    token_BLH, count_B11 = model.pool.tokens(batch.treatment), mask_BL.sum(1)[:, None, None]

    def probability(sum_BXH: Tensor, count_BX1: Tensor) -> Tensor:
        return torch.sigmoid(model.logit(model.pool.summarise(sum_BXH, count_BX1), user_B1H))

    sum_B1H = token_BLH.sum(1, keepdim=True)
    full_B1 = probability(sum_B1H, count_B11)
    none_B1 = probability(torch.zeros_like(sum_B1H), torch.zeros_like(count_B11))
    without_BL = probability(sum_B1H - token_BLH, (count_B11 - 1).expand(*mask_BL.shape, 1))
    return (full_B1 - without_BL) * mask_BL, full_B1[:, 0], none_B1[:, 0]
