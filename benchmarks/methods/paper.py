"""ALM-MTA as published, re-implemented in `model/paper`: the mediator is the match proxy, no response is read.

The paper leaves sizes and weights open; those of `PaperConfig` were chosen for the best correlation with the truth, on
the selection logit world.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.methods.interface import Method, Scores
from model.data import JourneyTable
from model.paper.credits import credits
from model.paper.fit import fit_paper
from model.paper.settings import PaperConfig

SOURCE = "ALM-MTA (ICLR 2026), arXiv 2605.08881, re-implemented"


def run_paper(
    table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int, config: PaperConfig | None = None
) -> Scores:
    """Fit and credit; P(Y | M, T, x, n) of the rows, P(Y | do T, x) of the whole trial."""
    model = fit_paper(table, config or PaperConfig(), seed)
    given = credits(model, table, row_J)
    trial = None if randomised is None else credits(model, randomised, torch.arange(len(randomised.keys)))
    return Scores(
        credit_N=given.delta_N.double().numpy(),
        p_J=given.p_J.double().numpy(),
        p_randomised_J=None if trial is None else trial.p_do_J.double().numpy(),
    )


PAPER = (Method(name="paper-variant", family="front-door", source=SOURCE, run=run_paper),)
