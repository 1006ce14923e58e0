"""Front-door learners FD-DR and FD-R, once a cluster: met k (T) -> responses (M) -> upload (Y), given z.

    τ(z) = Σ_m [P(m | T=1, z) − P(m | T=0, z)] Σ_t P(t | z) E[y | m, t, z]        credit_l = τ_k / touches of k

The package takes a binary mediator: M = the journey's decayed sum of standardised responses is above its median. FD-DR
regresses a doubly robust pseudo-outcome on z; FD-R multiplies an R-learner of T on M by one of M on Y (without its
averaging over swapped folds, which doubles the time). Both fit on at most FIT_ROWS journeys, drawn once: each cluster
takes dozens of boosted-tree fits. Without responses there is no mediator, and no credit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np
from torch import Tensor

from benchmarks.methods.interface import Floats, Method, Scores
from benchmarks.methods.journeys import Journeys, journeys
from benchmarks.methods.packages import package
from model.data import JourneyTable

FIT_ROWS = 8_000
MIN_GROUP = 200
"""Clusters met, or missed, by fewer of them get no credit."""


def run(name: str, table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:  # noqa: ARG001
    """`name` is the package's method: fd-dr or fd-r."""
    data = journeys(table, row_J, None, fit_rows=FIT_ROWS, seed=seed)
    mediator_J = response_sum(table, data.fit)
    high_J = mediator_J > np.median(mediator_J)
    effect_JK = np.zeros_like(data.asked.dose_JK)
    with _package(name) as FDCATE:
        for k in range(effect_JK.shape[1]):
            met_J = data.fit.met_JK[:, k]
            if min(met_J.sum(), (~met_J).sum(), high_J.sum()) < MIN_GROUP:
                continue
            learner = FDCATE(method=name, fd_r_swap_average=False, random_state=seed)
            learner.fit(data.fit.covariate_JZ, data.fit.label_J, t=met_J, m=high_J)
            effect_JK[:, k] = learner.effect(data.asked.covariate_JZ)
    return Scores(credit_N=data.asked.split_presence(effect_JK))


def response_sum(table: JourneyTable, data: Journeys) -> Floats:
    """Σ_l d_l · mean over responses of (response − mean) / sd, missing ones counting as the mean. [J]."""
    response_NR = table.response_NR.numpy()[data.position_N].astype(np.float64)
    known_NR = np.isfinite(response_NR)
    count_R = np.maximum(known_NR.sum(0), 1)
    centred_NR = np.where(known_NR, response_NR - np.where(known_NR, response_NR, 0).sum(0) / count_R, 0)
    sd_R = np.sqrt((centred_NR**2).sum(0) / count_R)
    index_N = (centred_NR / np.maximum(sd_R, 1e-6)).sum(1) / max(len(sd_R), 1)
    return np.bincount(data.journey_N, data.decay_N * index_N, len(data.label_J)).astype(np.float64)


@contextmanager
def _package(name: str) -> Iterator[Any]:
    """The estimator, without what only costs: its results stay the same.

    Its import turns off every warning of the process. It asks for two threads a tree learner, which on shared cores
    mostly wait for each other (measured: 20 times the CPU time). For FD-R it fits FD-DR's folds too, and drops them.
    """
    with warnings.catch_warnings():
        internals = import_module("FDCATE")
        from fd_cate import FDCATE

        def one_thread(make: Any, seed: int) -> Any:
            return make(seed).set_params(n_jobs=1)

        replaced: dict[str, Any] = {
            learner: partial(one_thread, getattr(internals, learner))
            for learner in ("new_xgb_classifier", "new_xgb_regressor")
        }
        if name == "fd-r":
            replaced["fit_folds"] = lambda *_, **__: []
        with patch.multiple(internals, **replaced):
            yield FDCATE


FRONT_DOOR = tuple(
    Method(name=name, family="front-door", source=package("fd-cate"), run=partial(run, name))
    for name in ("fd-dr", "fd-r")
)
