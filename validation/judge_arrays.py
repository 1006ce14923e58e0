"""What every judge reads: the judge split as arrays, and the exposure weights of its cells.

Shapes: J journeys, T touches, N later touches, K clusters (the last may be RARE, the merged ones), P profile columns,
R responses, B buckets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from validation.buckets import Buckets
from validation.shards import Floats, Ints, bin_sums

Bools = NDArray[np.bool_]

DECAY_HOURS = 24.0
"""Fixed time constant of the judges' dose; on purpose not the candidate's learned decay."""
SHARDS = 1_000


@dataclass(frozen=True, kw_only=True)
class LaterTouches:
    """Touches after the horizon, with the responses to them: no cause of the journey's outcome."""

    journey_N: Ints
    """Row of the journey, ascending."""
    column_N: Ints
    """Column (0..K-1) of the touch's cluster."""
    response_NR: Floats
    """As `JudgeArrays.response_TR`."""

    def subset(self, keep_J: Bools) -> LaterTouches:
        """Those of the journeys where `keep_J` is True, renumbered."""
        keep_N = keep_J[self.journey_N]
        return LaterTouches(
            journey_N=(np.cumsum(keep_J) - 1)[self.journey_N[keep_N]],
            column_N=self.column_N[keep_N],
            response_NR=self.response_NR[keep_N],
        )


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
    response_names: tuple[str, ...] = ()
    """Names of the responses R; empty where they are not known."""
    ignored: Mapping[str, Floats] = field(default_factory=dict)
    """Responses [T] that training found to be consequences of the upload: tested, and read by no judge."""
    later: LaterTouches | None = None
    """Where the logs have responses and touches after the horizon."""
    randomised_T: Bools | None = None
    """True where the exposure was drawn at random; None where the logs do not say."""
    delta_T: dict[str, Floats] = field(default_factory=dict)
    """Each ranking's removal effect of the touch."""

    @property
    def touch_counts(self) -> Ints:
        """Touches a journey."""
        return np.bincount(self.journey_T, minlength=len(self.y_J))

    def subset(self, keep_J: Bools) -> JudgeArrays:
        """The journeys where `keep_J` is True, renumbered."""
        place_J, keep_T = np.cumsum(keep_J) - 1, keep_J[self.journey_T]
        by_journey = ("shard_J", "y_J", "n_J", "covered_J", "x_JP", "dose_JK", "post_JK")
        by_touch = ("column_T", "decay_T", "response_TR", "randomised_T")
        cut = {
            name: value[keep]
            for names, keep in ((by_journey, keep_J), (by_touch, keep_T))
            for name in names
            if (value := getattr(self, name)) is not None
        }
        return replace(
            self,
            **cut,
            journey_T=place_J[self.journey_T[keep_T]],
            ignored={name: value_T[keep_T] for name, value_T in self.ignored.items()},
            later=None if self.later is None else self.later.subset(keep_J),
            delta_T={name: value_T[keep_T] for name, value_T in self.delta_T.items()},
        )

    @property
    def responses(self) -> dict[str, Floats]:
        """Each response's values, [T]; 'response 1' and so on where names are not known."""
        if self.response_TR is None:
            return {}
        names = self.response_names or tuple(f"response {r + 1}" for r in range(self.response_TR.shape[1]))
        return dict(zip(names, self.response_TR.T, strict=True))

    def within_journeys(self, value_T: Floats) -> Floats:
        """A touch's value less its journey's mean, [T]."""
        mean_J = bin_sums(self.journey_T, value_T, len(self.y_J)) / np.maximum(self.touch_counts, 1)
        return np.asarray(value_T - mean_J[self.journey_T])

    def per_cell(self, value_T: Floats, bucket_J: Ints, buckets: int) -> Floats:
        """Σ of a touch's value per bucket and cluster, [B, K]."""
        K = len(self.cluster_K)
        cell_T = bucket_J[self.journey_T] * K + self.column_T
        return bin_sums(cell_T, value_T, buckets * K).reshape(buckets, K)

    def per_journey_cluster(self, value_T: Floats) -> Floats:
        """Σ of a touch's value per journey and cluster, [J, K]."""
        J, K = self.dose_JK.shape
        return bin_sums(self.journey_T * K + self.column_T, value_T, J * K).reshape(J, K)


def sampled_users(shard_J: Ints, most: int) -> Bools:
    """Journeys [J] of as many shards of users as hold about `most` journeys; all where there are no more."""
    return np.asarray(shard_J < SHARDS * most / max(len(shard_J), 1))


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
