"""Responses that are consequences of the upload, found before anything is fitted to them.

    excess_r = 1 − loss(y | f(w), f(r)) / loss(y | f(w))
    f = journey features (model/adversary.py), w = the trusted response

A response r says something of y beyond the trusted one since both measure the mediator with error: a few percent of the
log-loss. A response recorded because of the upload says nearly all of it. Losses are of logistic regressions fitted on
the fit split and read on the selection split. Reference: McFadden (1974), "Conditional logit analysis of qualitative
choice behavior", for the share of the log-loss; ALM-MTA (ICLR 2026) for the leak.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.adversary import journey_features
from model.data import JourneyTable
from model.logistic import fit_logistic, log_loss

Floats = NDArray[np.float64]

JOURNEYS = 30_000
"""Of each split, at most: a leak of this kind shows in far fewer."""
JOURNEYS_A_BATCH = 4096


def leak_excess(table: JourneyTable, trusted: str) -> dict[str, float]:
    """Excess of every response but the trusted one; nothing where the trusted one is not in the logs."""
    responses = list(table.sizes.responses)
    if trusted not in responses or len(responses) < 2:
        return {}
    parts = {split: _features(table, table.split(split)[:JOURNEYS]) for split in ("fit", "selection")}
    base = _loss(parts, [responses.index(trusted)])
    return {
        name: 1 - _loss(parts, [responses.index(trusted), r]) / base
        for r, name in enumerate(responses)
        if name != trusted
    }


Part = tuple[list[Floats], Floats]
"""Journey features [J, 3] of each response, and y [J]."""


def _features(table: JourneyTable, row_J: Tensor) -> Part:
    features: list[list[Tensor]] = [[] for _ in table.sizes.responses]
    for row_B in torch.split(row_J, JOURNEYS_A_BATCH):
        batch = table.batch(row_B)
        d_BL1, mask_BL1 = torch.exp(-batch.treatment.gap_hours_BL / 24)[..., None], batch.treatment.mask_BL[..., None]
        for r, kept in enumerate(features):
            kept.append(journey_features(batch.response_BLR[..., r : r + 1].nan_to_num(0.0), d_BL1, mask_BL1))
    return [torch.cat(kept).double().numpy() for kept in features], table.label_J[row_J].double().numpy()


def _loss(parts: dict[str, Part], used: list[int]) -> float:
    """Log-loss on the selection split of the logistic regression on the used responses' features."""
    (fit, y_fit), (held, y_held) = parts["fit"], parts["selection"]
    x_fit, x_held = (np.concatenate([features[r] for r in used], 1) for features in (fit, held))
    mean, sd = x_fit.mean(0), x_fit.std(0) + 1e-9
    weight, bias = fit_logistic((x_fit - mean) / sd, y_fit)
    return log_loss(((x_held - mean) / sd) @ weight + bias, y_held)
