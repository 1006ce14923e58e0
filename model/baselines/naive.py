"""Naive leave-one-out: Δ_l = P(Y=1 | T, x, n) − P(Y=1 | T∖τ_l, x, n), with no regard to hidden intent.

What a deep attribution model without identification computes; it stands beside every credit as the thing to beat.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.batch import JourneyBatch
from model.confounder import ConfounderBranch
from model.front_door import Sizes
from model.settings import ModelConfig


class NaiveModel(nn.Module):
    """logit P(Y=1 | T, x, n): the confounder branch alone."""

    def __init__(self, config: ModelConfig, sizes: Sizes) -> None:
        super().__init__()
        self.branch = ConfounderBranch(
            clusters=sizes.clusters,
            content_dim=sizes.content_dim,
            profile_dim=sizes.profile_dim,
            control_dim=sizes.control_dim,
            hidden=config.hidden,
        )

    def forward(self, batch: JourneyBatch) -> Tensor:
        return torch.as_tensor(self.branch(batch.treatment, batch.profile_BP, batch.control_BC))


def leave_one_out(model: NaiveModel, batch: JourneyBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Δ of every touch [B, L], P(Y | T) [B] and P(Y | no touches) [B]."""
    branch, mask_BL = model.branch, batch.treatment.mask_BL
    token_BLH, count_B1 = branch.tokens(batch.treatment), mask_BL.sum(1, keepdim=True)
    user_BH = branch.profile(batch.profile_BP) + branch.controls(batch.control_BC)

    def probability(sum_BXH: Tensor, count_BX1: Tensor) -> Tensor:
        return torch.sigmoid(branch.logit(branch.summarise(sum_BXH, count_BX1), user_BH[:, None], torch.zeros(())))

    sum_B1H, count_B11 = token_BLH.sum(1, keepdim=True), count_B1[:, None]
    full_B1 = probability(sum_B1H, count_B11)
    none_B1 = probability(torch.zeros_like(sum_B1H), torch.zeros_like(count_B11))
    without_BL = probability(sum_B1H - token_BLH, (count_B11 - 1).expand(*mask_BL.shape, 1))
    return (full_B1 - without_BL) * mask_BL, full_B1[:, 0], none_B1[:, 0]
