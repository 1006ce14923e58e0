"""What every judge reads: the judge split as arrays, and the exposure weights of its cells.

Shapes: J journeys, T touches, K clusters (the last may be RARE, the merged ones), P profile columns, R responses,
B buckets.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from validation.buckets import Buckets
from validation.shards import Floats, Ints, bin_sums

DECAY_HOURS = 24.0
"""Fixed time constant of the judges' dose; on purpose not the candidate's learned decay."""
SHARDS = 1_000


@dataclass(frozen=True, kw_only=True)
class JudgeArrays:
    """The judge split; touches are grouped by journey, in journey order."""

    shard_J: Ints
    """Shard of the journey's user, 0..SHARDS-1."""
    y_J: Floats
    """1 where an upload followed within the horizon."""
    n_J: Floats
    """Negative-control outcome: uploads long before the touches."""
    covered_J: Floats
    """Days of n's window that the logs cover."""
    x_JP: Floats
    """Encoded profile; P = 0 without one."""
    cluster_K: Ints
    """Cluster ids of the columns K; RARE for the merged ones."""
    dose_JK: Floats
    """Σ exp(−gap / 24 h) of the window's touches per cluster."""
    post_JK: Floats | None
    """Touches per cluster after the horizon, the negative-control exposure; None without it."""
    journey_T: Ints
    """Row of the touch's journey, ascending."""
    column_T: Ints
    """Column (0..K-1) of the touch's cluster."""
    decay_T: Floats
    """exp(−gap / 24 h)."""
    response_TR: Floats | None
    """Responses after the touch, 0-centred; None where the logs have none."""
    delta_T: dict[str, Floats] = field(default_factory=dict)
    """Each ranking's removal effect of the touch."""

    @property
    def touch_counts(self) -> Ints:
        """Touches a journey."""
        return np.bincount(self.journey_T, minlength=len(self.y_J))

    def per_cell(self, value_T: Floats, bucket_J: Ints, buckets: int) -> Floats:
        """Σ of a touch's value per bucket and cluster, [B, K]."""
        K = len(self.cluster_K)
        cell_T = bucket_J[self.journey_T] * K + self.column_T
        return bin_sums(cell_T, value_T, buckets * K).reshape(buckets, K)

    def per_journey_cluster(self, value_T: Floats) -> Floats:
        """Σ of a touch's value per journey and cluster, [J, K]."""
        J, K = self.dose_JK.shape
        return bin_sums(self.journey_T * K + self.column_T, value_T, J * K).reshape(J, K)


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """`w_BK` share of a bucket's touches per cluster, `pi_B` share of all touches, `decay_B` mean decay."""

    w_BK: Floats
    pi_B: Floats
    decay_B: Floats


def exposure_of(data: JudgeArrays, buckets: Buckets) -> Exposure:
    """Weights of the cells from the judge's own touches."""
    ones_T = np.ones(len(data.journey_T))
    touches_BK = data.per_cell(ones_T, buckets.bucket_J, buckets.count)
    decay_BK = data.per_cell(data.decay_T, buckets.bucket_J, buckets.count)
    touches_B = np.maximum(touches_BK.sum(axis=1), 1.0)
    return Exposure(
        w_BK=touches_BK / touches_B[:, None],
        pi_B=touches_B / touches_B.sum(),
        decay_B=decay_BK.sum(axis=1) / touches_B,
    )


def ranking_scores(data: JudgeArrays, buckets: Buckets) -> dict[str, Floats]:
    """A ranking in a bucket: mean removal effect per touch and cluster, [B, K] each."""
    touches_BK = data.per_cell(np.ones(len(data.journey_T)), buckets.bucket_J, buckets.count)
    return {
        name: data.per_cell(delta_T, buckets.bucket_J, buckets.count) / np.maximum(touches_BK, 1.0)
        for name, delta_T in data.delta_T.items()
    }
