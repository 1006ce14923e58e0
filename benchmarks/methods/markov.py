"""Markov removal effects: how much less often a chain over clusters ends in an upload without cluster k.

    RE_k = 1 − P(start -> upload | k leads to no upload) / P(start -> upload)      credit_l = y · RE_k(l) / Σ_m RE_k(m)

Reference: Anderl, Becker, von Wangenheim, Schumann (2016), "Mapping the customer journey". ChannelAttribution 2.2.5
offers the same, but only as C++ source to compile; do-attribution computes it from the fundamental matrix in Python.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from benchmarks.methods.interface import Method, Scores
from benchmarks.methods.journeys import Journeys, journeys
from benchmarks.methods.packages import package
from model.data import JourneyTable

SEPARATOR = " > "


def run(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:  # noqa: ARG001
    from do_attribution.markov import MarkovAttribution

    data = journeys(table, row_J, None)
    chain = MarkovAttribution(separator=SEPARATOR, removal_strategy="redirect_to_null")
    effects = chain.fit(paths(data.fit), data.fit.label_J.astype(int))["removal_effects"]
    effect_K = np.array([effects.get(str(k), 0.0) for k in range(data.fit.dose_JK.shape[1] + 1)])
    asked = data.asked
    return Scores(credit_N=asked.label_J[asked.journey_N] * asked.shares(effect_K[asked.column_N]))


def paths(data: Journeys) -> list[str]:
    """One string of cluster columns a journey, oldest first."""
    ends_J = np.cumsum(np.bincount(data.journey_N, minlength=len(data.label_J)))
    return [SEPARATOR.join(map(str, path)) for path in np.split(data.column_N, ends_J[:-1])]


MARKOV = Method(name="markov", family="heuristic", source=package("do-attribution"), run=run)
