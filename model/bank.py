"""The marginalisation bank: fit journeys that stand for T' given x in the front-door formula.

Journeys are drawn at random from the fit split; each keeps its confounder activation, mediator residual and
propensity score s(x) = logit P(Y=1 | x), fitted by ridge-penalised Newton steps and standardised over the fit split.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from model.data import JourneyTable
from model.front_door import Bank, FrontDoorModel
from model.logistic import fit_logistic

Floats = NDArray[np.float64]


def propensity_score(profile_JP: Floats, label_J: Floats) -> tuple[Floats, float]:
    """Weights [P] and bias of the standardised logistic score of x; zero where profiles say nothing."""
    weight, _ = fit_logistic(profile_JP, label_J)
    score_J = profile_JP @ weight
    sd = float(score_J.std())
    if sd < 1e-6:
        return np.zeros(profile_JP.shape[1]), 0.0
    return weight / sd, float(-score_J.mean() / sd)


@torch.no_grad()
def build_bank(model: FrontDoorModel, table: JourneyTable, seed: int) -> Bank:
    """Draw `model.config.bank` fit journeys of a table with evidence and keep what marginalising needs of them."""
    fit_J = table.split("fit")
    weight, bias = propensity_score(
        table.profile_JP[fit_J].numpy().astype(np.float64), table.label_J[fit_J].numpy().astype(np.float64)
    )
    drawn = torch.randperm(len(fit_J), generator=torch.Generator().manual_seed(seed))[: model.config.bank]
    batch = table.batch(fit_J[drawn].sort().values)
    score_weight_P = torch.tensor(weight, dtype=torch.float32)
    score_bias = torch.tensor(bias, dtype=torch.float32)
    return Bank(
        hidden_JH=model.confounding_activation(batch),
        residual_J=model.residual(batch),
        score_J=batch.profile_BP @ score_weight_P + score_bias,
        score_weight_P=score_weight_P,
        score_bias=score_bias,
    )
