"""The raw judge's sufficient statistics, gathered from chunks of journeys: memory is the cells', not the logs'.

    u_rbk = Σ_s w_rs Y¹_sbk / Σ_s w_rs N¹_sbk − Σ_s w_rs Y⁰_sbk / Σ_s w_rs N⁰_sbk
N¹, Y¹ = journeys of shard s and bucket b with a touch of cluster k, and their uploads; N⁰, Y⁰ = those without. Once
the rows are summed, a bootstrap of any number of replicates is one matrix product of weights and sums. 0 where a
replicate has an empty arm, as in uplift_raw.py.

Shapes: S shards, B buckets, K clusters, R replicates; J journeys and T touches of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from validation.shards import Floats, Ints, Replicates, bin_sums


@dataclass(frozen=True, kw_only=True)
class CellSums:
    """Sums so far; `add` grows the arrays in place."""

    n_SB: Floats
    """Journeys."""
    y_SB: Floats
    """Their uploads."""
    n1_SBK: Floats
    """Journeys with a touch of the cluster."""
    y1_SBK: Floats
    """Their uploads."""
    touches_BK: Floats
    """Touches."""

    @classmethod
    def zeros(cls, *, shards: int, buckets: int, clusters: int) -> CellSums:
        """Nothing summed yet."""
        cells = (buckets, clusters)
        return cls(
            n_SB=np.zeros((shards, buckets)),
            y_SB=np.zeros((shards, buckets)),
            n1_SBK=np.zeros((shards, *cells)),
            y1_SBK=np.zeros((shards, *cells)),
            touches_BK=np.zeros(cells),
        )

    def add(self, *, shard_J: Ints, bucket_J: Ints, y_J: Floats, journey_T: Ints, column_T: Ints) -> None:
        """Add a chunk of whole journeys; `journey_T` is the touch's row in the chunk, `column_T` its cluster."""
        S, B, K = self.n1_SBK.shape
        group_J = shard_J * B + bucket_J
        touched_JK = np.zeros((len(y_J), K), dtype=bool)
        touched_JK[journey_T, column_T] = True
        journey_X, column_X = np.nonzero(touched_JK)
        cell_X = group_J[journey_X] * K + column_X
        self.n_SB[:] += np.bincount(group_J, minlength=S * B).reshape(S, B)
        self.y_SB[:] += bin_sums(group_J, y_J, S * B).reshape(S, B)
        self.n1_SBK[:] += np.bincount(cell_X, minlength=S * B * K).reshape(S, B, K)
        self.y1_SBK[:] += bin_sums(cell_X, y_J[journey_X], S * B * K).reshape(S, B, K)
        self.touches_BK[:] += np.bincount(bucket_J[journey_T] * K + column_T, minlength=B * K).reshape(B, K)

    def uplift(self, replicates: Replicates) -> Floats:
        """u_bk of every replicate, [R, B, K]."""
        n1, y1 = _weighted(self.n1_SBK, replicates), _weighted(self.y1_SBK, replicates)
        n0 = _weighted(self.n_SB, replicates)[..., None] - n1
        y0 = _weighted(self.y_SB, replicates)[..., None] - y1
        both = (n1 > 0) & (n0 > 0)
        return np.where(both, y1 / np.where(both, n1, 1.0) - y0 / np.where(both, n0, 1.0), 0.0)

    def exposure(self) -> tuple[Floats, Floats]:
        """Shares of touches: w_bk of the cluster within the bucket [B, K], π_b of the bucket [B]."""
        touches_B = self.touches_BK.sum(axis=1)
        return self.touches_BK / np.maximum(touches_B, 1.0)[:, None], touches_B / max(touches_B.sum(), 1.0)


def _weighted(sum_Sx: Floats, replicates: Replicates) -> Floats:
    """Σ_s w_rs of the shards' sums, [R, ...]."""
    return np.tensordot(replicates.weight_RS, sum_Sx, axes=1)
