"""Judged journeys small enough to reckon by hand, and methods that do what tests want."""

from __future__ import annotations

import os

import numpy as np
from torch import Tensor

from benchmarks.accuracy.metrics import Judged
from benchmarks.methods import Method, Scores
from model.data import JourneyTable
from validation.buckets import Buckets
from validation.judge_arrays import JudgeArrays, exposure_of
from validation.shards import Floats


def judged_by_hand(
    *, journeys: list[list[tuple[int, float]]], uploads: list[int], buckets: list[int], users: list[int] | None = None
) -> Judged:
    """journeys: (cluster, true Δ) of each touch; uploads, buckets, users: one a journey."""
    J, length_J = len(journeys), [len(touches) for touches in journeys]
    column_T = np.array([cluster for touches in journeys for cluster, _ in touches])
    truth_T = np.array([delta for touches in journeys for _, delta in touches])
    journey_T = np.repeat(np.arange(J), length_J)
    K, B = int(column_T.max()) + 1, max(buckets) + 1
    arrays = JudgeArrays(
        shard_J=np.zeros(J, np.int64),
        y_J=np.array(uploads, dtype=np.float64),
        n_J=np.zeros(J),
        covered_J=np.zeros(J),
        x_JP=np.zeros((J, 0)),
        cluster_K=np.arange(K),
        dose_JK=np.zeros((J, K)),
        post_JK=None,
        journey_T=journey_T,
        column_T=column_T,
        decay_T=np.ones(len(column_T)),
        response_TR=None,
    )
    found = Buckets(
        bucket_J=np.array(buckets), propensity_J=np.zeros(J), count=B, treated_BK=np.zeros((B, K), np.int64), why=""
    )
    user_J = np.array(users if users is not None else range(J))
    return Judged(
        arrays=arrays,
        buckets=found,
        exposure=exposure_of(arrays, found),
        truth_T=truth_T,
        last_T=np.diff(journey_T, append=J) > 0,
        user_J=user_J,
        author_J=user_J,
    )


def _level(table: JourneyTable, row_J: Tensor, value: float) -> Floats:
    return np.full(int(table.length_J[row_J].sum()), value)


def _steady(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:
    """Equal credits, and one more thing to tell runs apart: the global random generator."""
    assert randomised is not None
    noise_N = 1e-3 * np.random.standard_normal(int(table.length_J[row_J].sum()))
    return Scores(
        credit_N=_level(table, row_J, 0.01) + noise_N,
        p_J=np.full(len(row_J), 0.1),
        p_randomised_J=np.full(len(randomised.keys), 0.1 + 1e-6 * seed),
    )


def _clusters(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:  # noqa: ARG001
    """The number of the touch's cluster."""
    batch = table.batch(row_J)
    return Scores(credit_N=batch.treatment.cluster_BL[batch.treatment.mask_BL.bool()].numpy().astype(np.float64))


def _brittle(*_: object) -> Scores:
    raise ValueError("this method\nnever works")


def _short(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:  # noqa: ARG001
    return Scores(credit_N=_level(table, row_J, 0.01)[1:])


def _die(*_: object) -> Scores:
    os._exit(9)  # as a process ends that is out of memory


METHODS = {
    "alm-mta": Method(name="alm-mta", family="ours", source="a test", run=_clusters),
    "steady": Method(name="steady", family="back-door", source="a test", run=_steady),
    "brittle": Method(name="brittle", family="heuristic", source="a test", run=_brittle),
    "short": Method(name="short", family="heuristic", source="a test", run=_short),
}

DEADLY = {
    "steady": METHODS["steady"],
    "deadly": Method(name="deadly", family="heuristic", source="a test", run=_die),
}
