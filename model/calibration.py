"""The scale κ of the effects from exposures that were drawn at random.

Over journeys with randomised touches, z_j = Σ_{l random} d_l · (m_l − E_random m(·, x)) owes nothing to hidden intent,
so it must be uncorrelated with what the marginalised prediction leaves unexplained:

    f(κ) = Σ_j z_j (y_j − P_κ(Y=1 | do T_j, x_j)) = 0 ± √V

κ̂ minimises f(κ)² / V + (κ − 1)² / s₀², s₀ being how far off κ = 1 may be; its standard error is
(f'(κ̂)² / V + 1 / s₀²)^-½. f bends, so that its own root would be far off where random exposures are few. Without
randomised rows κ stays 1. Reference: Hansen (1982), "Large sample properties of generalized method of moments
estimators", Econometrica 50(4).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from model.bank import build_bank
from model.data import JourneyTable
from model.evidence import Noise
from model.front_door import FrontDoorModel, marginal_game

logger = logging.getLogger(__name__)

JOURNEYS_A_BATCH = 2048
LEAST_JOURNEYS = 500
"""Randomised journeys below which their estimate would be noise."""
KAPPA_STEP = 0.05
"""Of the finite difference f'(κ)."""
PRIOR_ERROR = 0.25
"""s₀: relative error of the scale that comes without randomised rows, on the selection worlds."""
UNKNOWN_ERROR = 1.0
"""s₀ where one group of responses leaves their reliability, and with it the scale, unknown."""
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


@torch.no_grad()
def calibrate(model: FrontDoorModel, table: JourneyTable, seed: int, noise: Noise | None) -> Calibration:
    """Set the model's κ and its relative error by the fit and selection journeys of a table with evidence."""
    reliability: list[float | None] = [None]
    if noise is not None:
        reliability = [r if 0 < r < math.inf else None for r in noise.reliability_K.tolist()]
    row_R = _randomised_journeys(table)
    kappa = 1.0
    source, error = ("none", UNKNOWN_ERROR) if None in reliability else ("reliability", PRIOR_ERROR)
    if model.config.calibrate and len(row_R) >= LEAST_JOURNEYS:
        kappa, error, source = *_by_randomised(model, table, row_R, seed, error), "randomised"
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


def _by_randomised(
    model: FrontDoorModel, table: JourneyTable, row_R: Tensor, seed: int, prior_error: float
) -> tuple[float, float]:
    random_N = torch.nonzero(table.touch_randomised_N)[:, 0]
    drawn = torch.randint(0, len(random_N), (RANDOM_ITEMS,), generator=torch.Generator().manual_seed(seed))

    def moment(kappa: float) -> Tensor:
        """z_j (y_j − P_κ(do T_j)) of the randomised journeys. [R]."""
        model.get_buffer("kappa").fill_(kappa)
        return _moment(model, table, row_R, random_N[drawn], seed)

    return combine(moment, prior_error)


def combine(moment: Callable[[float], Tensor], prior_error: float) -> tuple[float, float]:
    """κ̂ and its relative error from the summands [R] of f(κ) and the prior 1 ± s₀."""

    def f(kappa: float) -> float:
        return float(moment(kappa).sum())

    at_prior_R = moment(1.0)
    V = max(float(at_prior_R.var()) * len(at_prior_R), 1e-12)

    def misfit(kappa: float) -> float:
        return f(kappa) ** 2 / V + ((kappa - 1) / prior_error) ** 2

    kappa = float(minimize_scalar(misfit, bounds=(SMALLEST, LARGEST), options={"xatol": 1e-3}).x)
    slope = (f(kappa + KAPPA_STEP) - f(kappa - KAPPA_STEP)) / (2 * KAPPA_STEP)
    return kappa, (slope**2 / V + 1 / prior_error**2) ** -0.5 / kappa


def _moment(model: FrontDoorModel, table: JourneyTable, row_R: Tensor, item_I: Tensor, seed: int) -> Tensor:
    bank, alpha = build_bank(model, table, seed), model.log_scale.exp()
    cluster_1I = table.touch_cluster_N[item_I][None]
    content_1ID = table.content_ID[table.touch_item_N[item_I]][None]
    z_parts, left_parts = [], []
    for row_B in torch.split(row_R, JOURNEYS_A_BATCH):
        batch, (position_BL, mask_BL) = table.batch(row_B), table.positions(row_B)
        t, x_BP = batch.treatment, batch.profile_BP
        random_BL = (table.touch_randomised_N[position_BL] & mask_BL).float()
        m_BLK = model.prior(t.cluster_BL, t.content_BLD, x_BP).mean(0)
        typical_B1K = model.prior(cluster_1I, content_1ID, x_BP).mean(0).mean(1, keepdim=True)
        contrast_BL = (model.decay(t.gap_hours_BL) * (m_BLK - typical_B1K)).sum(-1)
        z_parts.append(alpha * (random_BL * contrast_BL).sum(1))
        total_B1 = model.effects(t, x_BP).sum(1, keepdim=True)
        left_parts.append(batch.label_B - marginal_game(model, bank, x_BP).value(total_B1)[:, 0])
    z_R, left_R = torch.cat(z_parts).double(), torch.cat(left_parts).double()
    return (z_R - z_R.mean()) * left_R
