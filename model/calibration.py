"""The scale κ of the effects from exposures that were drawn at random.

f(κ) = 0 ± √V is the moment of model/moment.py, κ = 1 ± s₀ what is known without it:

    κ̂ minimises f(κ)² / V + (κ − 1)² / s₀²,     standard error (f'(κ̂)² / V + 1 / s₀²)^-½

f bends, so that its own root would be far off where random exposures are few. It is interpolated over log κ. Without
randomised rows κ stays 1. Reference: Hansen (1982), "Large sample properties of generalized method of moments
estimators", Econometrica 50(4).
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize_scalar
from torch import Tensor

from model.data import JourneyTable
from model.evidence import Noise
from model.front_door import FrontDoorModel
from model.moment import Moment, randomised_moment

logger = logging.getLogger(__name__)

LEAST_JOURNEYS = 500
"""Randomised journeys below which their estimate would be noise."""
PRIOR_ERROR = 0.15
"""s₀: relative error of the scale that comes without randomised rows: .13 (root mean square) over ten data sets of
selection worlds, 20,000 to 80,000 users."""
UNKNOWN_ERROR = 1.0
"""s₀ where one group of responses leaves their reliability, and with it the scale, unknown."""
ERROR_FACTOR = 5 / 3
"""Of the scale's error in the errors of credits: chosen with the factors of model/uncertainty.py."""
RANDOM_ITEMS = 64
SMALLEST, LARGEST = 0.1, 10.0
KAPPA_G = torch.logspace(math.log10(SMALLEST), math.log10(LARGEST), 17, dtype=torch.float64)
"""Where f is computed; 1 is among them."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Where the scale of the effects comes from."""

    kappa: float
    relative_error: float
    """Of the scale, in the standard errors of credits; at most 1."""
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
    error = min(ERROR_FACTOR * error, 1.0)
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
    return combine(randomised_moment(model, table, row_R, random_N[drawn], KAPPA_G, seed), prior_error)


def combine(moment: Moment, prior_error: float) -> tuple[float, float]:
    """κ̂ and its relative error from f(κ), known on a grid, and the prior 1 ± s₀."""
    f, V = CubicSpline(moment.kappa_G.log().numpy(), moment.f_G.numpy()), max(moment.variance, 1e-12)

    def misfit(kappa: float) -> float:
        return float(f(math.log(kappa)) ** 2 / V + ((kappa - 1) / prior_error) ** 2)

    kappa = float(minimize_scalar(misfit, bounds=(SMALLEST, LARGEST), options={"xatol": 1e-3}).x)
    slope = float(f(math.log(kappa), 1)) / kappa
    return kappa, (slope**2 / V + 1 / prior_error**2) ** -0.5 / kappa
