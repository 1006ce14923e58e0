"""The product's own model: fitted as a run fits it, credits by front-door marginalisation (`model/front_door.py`)."""

from __future__ import annotations

import importlib.metadata
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.methods.interface import Floats, Method, Scores
from model.attribution import Scorer, front_door_scorer
from model.data import JourneyTable
from model.settings import ModelConfig, TrainConfig
from model.train import FittedFrontDoor, check_splits, fit_front_door

JOURNEYS_A_BATCH = 1024


@torch.no_grad()
def score(fitted: FittedFrontDoor, row_J: Tensor, trial: JourneyTable | None) -> Scores:
    """Credits of the rows; P(Y | T, S, x, n) of the rows; P(Y | do T, x) of the whole trial."""
    scorer = front_door_scorer(fitted.model, fitted.bank, with_shapley=False)
    credit, stderr, abstained, p = [], [], [], []
    for row_B in torch.split(row_J, JOURNEYS_A_BATCH):
        batch = fitted.table.batch(row_B)
        mask_BL, credits = batch.treatment.mask_BL.bool(), scorer(batch)
        credit.append(credits.delta_BL[mask_BL])
        stderr.append(credits.stderr_BL[mask_BL])
        abstained.append(credits.abstained_B[:, None].expand(mask_BL.shape)[mask_BL])
        p.append(torch.sigmoid(fitted.model.outcome_logit(batch)))
    return Scores(
        credit_N=_flat(credit),
        stderr_N=_flat(stderr),
        abstained_N=torch.cat(abstained).numpy(),
        p_J=_flat(p),
        p_randomised_J=None if trial is None else _p_do(scorer, trial),
    )


def _p_do(scorer: Scorer, table: JourneyTable) -> Floats:
    rows = torch.split(torch.arange(len(table.keys)), JOURNEYS_A_BATCH)
    return _flat([scorer(table.batch(row_B)).p_do_B for row_B in rows])


def _flat(parts: list[Tensor]) -> Floats:
    return torch.cat(parts).numpy().astype(np.float64)


def run_product(
    table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int,
    model_config: ModelConfig | None = None, config: TrainConfig | None = None,
) -> Scores:  # fmt: skip
    """Fit as a run does, by the default settings unless told otherwise, and score."""
    check_splits(table)
    config = replace(config or TrainConfig(), seed=seed, naive_baseline=False)
    with tempfile.TemporaryDirectory() as checkpoints:
        fitted = fit_front_door(table, model_config or ModelConfig(), config, Path(checkpoints))
    return score(fitted, row_J, randomised)


def _run_unguarded(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:
    """The product without adversary and leak screen: what a leaky response does then."""
    return run_product(table, row_J, randomised, seed, config=TrainConfig(adversary_weight=0.0, leak_threshold=0.0))


_SOURCE = f"alm-mta {importlib.metadata.version('alm-mta')}"
OURS = (
    Method(name="alm-mta", family="ours", source=_SOURCE, run=run_product),
    Method(
        name="alm-mta-unguarded",
        family="ours",
        source=f"{_SOURCE} without adversary and leak screen",
        run=_run_unguarded,
    ),
)
