"""The scale κ of the effects from exposures that were drawn at random.

Over journeys with randomised touches, z_j = Σ_{l random} d_l · (m_l − E_random m(·, x)) owes nothing to hidden intent,
so it must be uncorrelated with what the marginalised prediction leaves unexplained:

    Σ_j z_j (y_j − P_κ(Y=1 | do T_j, x_j)) = 0,   solved for κ by Newton steps with Σ_j z_j² α ∂P/∂e

The estimate κ̂ ± s is combined by precision with what the responses' reliability said, κ = 1 ± 0.25. Without randomised
rows κ stays 1. Reference: Hansen (1982), "Large sample properties of generalized method of moments estimators",
Econometrica 50(4).
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.bank import build_bank
from model.data import JourneyTable
from model.evidence import Noise
from model.front_door import FrontDoorModel, marginal_game

logger = logging.getLogger(__name__)

JOURNEYS_A_BATCH = 2048
LEAST_JOURNEYS = 500
"""Randomised journeys below which their estimate would be noise."""
NEWTON_STEPS = 4
PRIOR_ERROR = 0.25
"""Relative error of the scale that comes without randomised rows, on the selection worlds."""
RANDOM_ITEMS = 64
SMALLEST, LARGEST = 0.1, 10.0


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Where the scale of the effects comes from."""

    kappa: float
    relative_error: float
    """Standard error of the scale over the scale."""
    source: str
    """'randomised', 'reliability' (two groups of responses) or 'none'."""
    randomised_journeys: int
    reliability: list[float | None]
    """Share of the response index's residual that is mediator, by dimension; None with one group of responses."""
    leak_suspected: bool


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """z, what is unexplained of y, and ∂P/∂κ over z of the randomised journeys."""

    z_R: Tensor
    left_R: Tensor
    slope_R: Tensor

    def step(self) -> float:
        return float((self.z_R * self.left_R).sum() / (self.z_R**2 * self.slope_R).sum().clamp_min(1e-12))

    def error(self) -> float:
        spread = (self.z_R * self.left_R).std() * len(self.z_R) ** 0.5
        return float(spread / (self.z_R**2 * self.slope_R).sum().clamp_min(1e-12))


@torch.no_grad()
def calibrate(model: FrontDoorModel, table: JourneyTable, seed: int, noise: Noise | None) -> Calibration:
    """Set the model's κ and its relative error by the fit and selection journeys of a table with evidence."""
    reliability: list[float | None] = [None]
    if noise is not None:
        reliability = [r if 0 < r < math.inf else None for r in noise.reliability_K.tolist()]
    row_R = _randomised_journeys(table)
    kappa, error = 1.0, PRIOR_ERROR
    source = "none" if None in reliability else "reliability"
    if model.config.calibrate and len(row_R) >= LEAST_JOURNEYS:
        kappa, error, source = *_by_randomised(model, table, row_R, seed), "randomised"
    model.get_buffer("kappa").fill_(kappa)
    model.get_buffer("kappa_relative_error").fill_(error)
    logger.info("scale %.3f, relative error %.2f, by %s (%d journeys)", kappa, error, source, len(row_R))
    return Calibration(
        kappa=kappa, relative_error=error, source=source, randomised_journeys=len(row_R), reliability=reliability,
        leak_suspected=bool(noise and noise.leak_suspected),
    )  # fmt: skip


def _randomised_journeys(table: JourneyTable) -> Tensor:
    """Rows of fit and selection journeys with a randomised touch."""
    count_N1 = torch.cat([torch.zeros(1), table.touch_randomised_N.float()]).double().cumsum(0)
    any_J = count_N1[table.offset_J + table.length_J] > count_N1[table.offset_J]
    used = torch.cat([table.split("fit"), table.split("selection")]).sort().values
    return used[any_J[used]]


def _by_randomised(model: FrontDoorModel, table: JourneyTable, row_R: Tensor, seed: int) -> tuple[float, float]:
    """κ and its relative error, after combination with the prior."""
    random_N = torch.nonzero(table.touch_randomised_N)[:, 0]
    drawn = torch.randint(0, len(random_N), (RANDOM_ITEMS,), generator=torch.Generator().manual_seed(seed))
    kappa = 1.0
    for _ in range(NEWTON_STEPS):
        model.get_buffer("kappa").fill_(kappa)
        moment = _moment(model, table, row_R, random_N[drawn], seed)
        kappa = min(max(kappa + moment.step(), SMALLEST), LARGEST)
    precision, prior = 1 / max(moment.error(), 1e-6) ** 2, 1 / PRIOR_ERROR**2
    kappa = (kappa * precision + prior) / (precision + prior)
    return kappa, (precision + prior) ** -0.5 / kappa


def _moment(model: FrontDoorModel, table: JourneyTable, row_R: Tensor, item_I: Tensor, seed: int) -> _Moment:
    bank, alpha = build_bank(model, table, seed), model.log_scale.exp()
    cluster_1I = table.touch_cluster_N[item_I][None]
    content_1ID = table.content_ID[table.touch_item_N[item_I]][None]
    parts = []
    for row_B in torch.split(row_R, JOURNEYS_A_BATCH):
        batch, (position_BL, mask_BL) = table.batch(row_B), table.positions(row_B)
        t, x_BP = batch.treatment, batch.profile_BP
        random_BL = (table.touch_randomised_N[position_BL] & mask_BL).float()
        m_BLK = model.prior(t.cluster_BL, t.content_BLD, x_BP).mean(0)
        typical_B1K = model.prior(cluster_1I, content_1ID, x_BP).mean(0).mean(1, keepdim=True)
        contrast_BL = (model.decay(t.gap_hours_BL) * (m_BLK - typical_B1K)).sum(-1)
        game = marginal_game(model, bank, x_BP)
        total_B1 = model.effects(t, x_BP).sum(1, keepdim=True)
        slope_B = (game.value(total_B1 + 0.1) - game.value(total_B1 - 0.1))[:, 0] / 0.2
        parts.append((alpha * (random_BL * contrast_BL).sum(1), batch.label_B - game.value(total_B1)[:, 0], slope_B))
    z_R, left_R, slope_R = (torch.cat(part).double() for part in zip(*parts, strict=True))
    return _Moment(z_R=z_R - z_R.mean(), left_R=left_R, slope_R=slope_R)
