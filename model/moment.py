"""What randomised exposures say of the scale κ of the effects.

Over journeys with randomised touches, z_j = Σ_{l random} α d_l · (m_l − E_random m(·, x)) owes nothing to hidden
intent, so it must be uncorrelated with what the marginalised prediction leaves unexplained:

    f(κ) = Σ_j (z_j − z̄) (y_j − P_κ(Y=1 | do T_j, x_j)),     V = variance of the summands at κ = 1, times their number

P_κ is the game of model/front_door.py with effects κ e_l and residuals R_j = M̂_j − κ Σ_l e_l. Both are linear in κ, so
the networks, which are what it costs, are evaluated once for all κ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.bank import build_bank
from model.batch import JourneyBatch
from model.data import JourneyTable
from model.front_door import FrontDoorModel, marginal_game

JOURNEYS_A_BATCH = 2048


@dataclass(frozen=True, kw_only=True)
class Moment:
    """f on a grid of κ, and its variance V."""

    kappa_G: Tensor
    f_G: Tensor
    variance: float


@torch.no_grad()
def randomised_moment(
    model: FrontDoorModel, table: JourneyTable, row_R: Tensor, item_I: Tensor, kappa_G: Tensor, seed: int
) -> Moment:
    """The moment over the rows R; the items of the touches I stand for random exposure. Leaves the model's κ at 1."""
    kappa = model.get_buffer("kappa")
    kappa.fill_(0.0)
    pooled_J = build_bank(model, table, seed).residual_J
    kappa.fill_(1.0)
    bank = build_bank(model, table, seed)
    z_parts, left_parts = [], []
    for row_B in torch.split(row_R, JOURNEYS_A_BATCH):
        batch, (position_BL, mask_BL) = table.batch(row_B), table.positions(row_B)
        random_BL = table.touch_randomised_N[position_BL] & mask_BL
        e_BL = model.effects(batch.treatment, batch.profile_BP)
        typical_BL = _typical_effects(model, table, batch, item_I)
        z_parts.append((random_BL * (e_BL - typical_BL)).sum(1))
        game, total_B1 = marginal_game(model, bank, batch.profile_BP), e_BL.sum(1, keepdim=True)
        p_GB = torch.stack([
            replace(game, residual_J=torch.lerp(pooled_J, bank.residual_J, k)).value(k * total_B1)[:, 0]
            for k in kappa_G.tolist()
        ])  # fmt: skip
        left_parts.append(batch.label_B - p_GB)
    z_R, left_GR = torch.cat(z_parts).double(), torch.cat(left_parts, dim=1).double()
    summand_GR = (z_R - z_R.mean()) * left_GR
    at_one_R = summand_GR[(kappa_G - 1).abs().argmin()]
    return Moment(kappa_G=kappa_G, f_G=summand_GR.sum(1), variance=float(at_one_R.var()) * len(at_one_R))


def _typical_effects(model: FrontDoorModel, table: JourneyTable, batch: JourneyBatch, item_I: Tensor) -> Tensor:
    """What the items of these touches would add on average in the place of each touch. [B, L]."""
    x_BP, prior = batch.profile_BP, model.prior
    m_BIK = prior(table.touch_cluster_N[item_I][None], table.content_ID[table.touch_item_N[item_I]][None], x_BP).mean(0)
    typical_B1K = (m_BIK.mean(1) - prior.reference(x_BP).mean(0))[:, None]
    d_BLK = model.decay(batch.treatment.gap_hours_BL)
    return torch.as_tensor(model.log_scale.exp() * (d_BLK * typical_B1K).sum(-1))
