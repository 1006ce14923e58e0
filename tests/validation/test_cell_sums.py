"""Streamed cell sums are the raw judge's own numbers, whatever the chunks."""

from __future__ import annotations

import numpy as np
import pytest
from confounded_world import confounded_world

from validation.buckets import make_buckets, profile_basis
from validation.cell_sums import CellSums
from validation.judge_arrays import SHARDS, JudgeArrays, exposure_of
from validation.shards import Ints, draw_replicates
from validation.uplift_raw import uplift_raw


def streamed(data: JudgeArrays, bucket_J: Ints, buckets: int, chunk: int) -> CellSums:
    sums = CellSums.zeros(shards=SHARDS, buckets=buckets, clusters=len(data.cluster_K))
    for start in range(0, len(data.y_J), chunk):
        rows = slice(start, start + chunk)
        touch = (data.journey_T >= start) & (data.journey_T < start + chunk)
        sums.add(
            shard_J=data.shard_J[rows],
            bucket_J=bucket_J[rows],
            y_J=data.y_J[rows],
            journey_T=data.journey_T[touch] - start,
            column_T=data.column_T[touch],
        )
    return sums


@pytest.mark.parametrize("chunk", [700, 10_000])
def test_equals_the_raw_judge(chunk: int) -> None:
    """Its dose matrix is dense and its sums are a sparse product: an independent way to the same numbers."""
    data = confounded_world(3_000, seed=1, clusters=12, touches=5).data
    buckets = make_buckets(
        basis_JF=profile_basis(data.x_JP), y_J=data.y_J, shard_J=data.shard_J, dose_JK=data.dose_JK, most=3,
        min_treated=10,
    )  # fmt: skip
    sums = streamed(data, buckets.bucket_J, buckets.count, chunk)
    replicates = draw_replicates(SHARDS, 20, half_pairs=2, seed=0)
    np.testing.assert_allclose(sums.uplift(replicates), uplift_raw(data, buckets, replicates).u_RBK, atol=1e-12)
    exposure = exposure_of(data, buckets)
    w_BK, pi_B = sums.exposure()
    np.testing.assert_allclose(w_BK, exposure.w_BK)
    np.testing.assert_allclose(pi_B, exposure.pi_B)


def test_by_hand() -> None:
    """Cluster 0: touched by journeys 0 (twice) and 1, y = 1, 0, against 2, 3 with y = 1, 1: ½ − 1 = −½.

    Everybody in the bucket touched cluster 1, nobody cluster 2, and the second bucket is empty: no contrast, 0.
    """
    sums = CellSums.zeros(shards=2, buckets=2, clusters=3)
    sums.add(
        shard_J=np.array([0, 1, 0, 1]),
        bucket_J=np.zeros(4, dtype=int),
        y_J=np.array([1.0, 0.0, 1.0, 1.0]),
        journey_T=np.array([0, 0, 1, 0, 1, 2, 3]),
        column_T=np.array([0, 0, 0, 1, 1, 1, 1]),
    )
    u_RBK = sums.uplift(draw_replicates(2, 0, half_pairs=0, seed=0))
    np.testing.assert_allclose(u_RBK, [[[-0.5, 0, 0], [0, 0, 0]]])
    w_BK, pi_B = sums.exposure()
    np.testing.assert_allclose(w_BK, [[3 / 7, 4 / 7, 0], [0, 0, 0]])
    np.testing.assert_allclose(pi_B, [1, 0])
