"""Shapley value of clusters as players: an upload belongs to the set of clusters that its journey met.

    v(S) = number of journeys that upload and met clusters within S only
    φ_k = Σ_{journeys with k} y / |their clusters|,  of which a journey pays y / |its clusters| to each

Reference: Zhao, Mahboobi, Bagheri (2018), "Shapley value methods for attribution modeling", arXiv 1804.05327.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from benchmarks.methods.interface import Method, Scores
from benchmarks.methods.journeys import journeys
from benchmarks.methods.packages import package
from model.data import JourneyTable


def run(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:  # noqa: ARG001
    """The package shares out the asked journeys; it learns nothing from others, so there is nothing to fit."""
    from shapley_attribution import SimplifiedShapleyAttribution

    asked = journeys(table, row_J, None).asked
    ends_J = np.cumsum(np.bincount(asked.journey_N, minlength=len(asked.label_J)))
    paths = [path.tolist() for path in np.split(asked.column_N, ends_J[:-1])]
    game = SimplifiedShapleyAttribution()
    share_JC = game.fit(paths, asked.label_J.astype(int)).transform(paths)
    player_N = np.searchsorted(game.channels_, asked.column_N)
    times_JC = np.zeros_like(share_JC)
    np.add.at(times_JC, (asked.journey_N, player_N), 1.0)
    share_N = (share_JC / np.maximum(times_JC, 1))[asked.journey_N, player_N]
    return Scores(credit_N=asked.label_J[asked.journey_N] * share_N)


SHAPLEY_CHANNELS = Method(name="shapley-channels", family="heuristic", source=package("shapley-attribution"), run=run)
