"""Replicates of a linear estimator without touching the rows again.

Users are hashed to S shards. Everything the judges need is a sum over rows, so a replicate r is a weight a shard:
    G_r = Σ_s w_rs Σ_{j∈s} a_j a_jᵀ,   w_r ~ Multinomial(S, 1/S).
Row 0 of the weights is the sample itself; then come pairs of half samples (for cross-fitting A_oracle); then the
bootstrap. Reference: Efron & Tibshirani (1993), "An introduction to the bootstrap", on clusters of rows.

Shapes: R replicates, S shards, J rows, p and Q columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SHARDS_A_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class Replicates:
    """Shard weights [R, S] of the sample, of `half_pairs` complementary halves, and of the bootstrap."""

    weight_RS: Floats
    half_pairs: int

    @property
    def first(self) -> slice:
        """One half of each pair."""
        return slice(1, 1 + self.half_pairs)

    @property
    def second(self) -> slice:
        """The other half of each pair."""
        return slice(1 + self.half_pairs, 1 + 2 * self.half_pairs)

    @property
    def boot(self) -> slice:
        return slice(1 + 2 * self.half_pairs, None)

    @property
    def shards(self) -> int:
        return int(self.weight_RS.shape[1])


def draw_replicates(shards: int, replicates: int, *, half_pairs: int, seed: int) -> Replicates:
    """Weights of the sample, 2 x `half_pairs` halves and `replicates` bootstrap draws; same seed, same weights."""
    rng = np.random.default_rng(seed)
    order_HS = np.argsort(rng.random((half_pairs, shards)), axis=1)
    first_HS = 2.0 * (order_HS < shards // 2)
    boot_RS = rng.multinomial(shards, np.full(shards, 1 / shards), size=replicates).astype(np.float64)
    weight_RS = np.concatenate([np.ones((1, shards)), first_HS, 2.0 - first_HS, boot_RS])
    return Replicates(weight_RS=weight_RS, half_pairs=half_pairs)


def shard_sums(value_Jp: Floats, shard_J: Ints, shards: int) -> Floats:
    """Σ of the rows of each shard, [S, p]."""
    rows = np.arange(len(shard_J))
    member_SJ = sparse.csr_array((np.ones(len(rows)), (shard_J, rows)), shape=(shards, len(rows)))
    return np.asarray(member_SJ @ value_Jp)


def bin_sums(index_N: Ints, value_N: Floats, bins: int) -> Floats:
    """Σ of the values that share an index, [bins]."""
    return np.asarray(np.bincount(index_N, value_N, bins), dtype=np.float64)


def weighted_sums(value_Jp: Floats, shard_J: Ints, replicates: Replicates) -> Floats:
    """Σ_s w_rs Σ_{j∈s} value_j, [R, p]."""
    return np.asarray(replicates.weight_RS @ shard_sums(value_Jp, shard_J, replicates.shards))


def weighted_grams(a_Jp: Floats, shard_J: Ints, replicates: Replicates) -> Floats:
    """Σ_s w_rs A_sᵀA_s, [R, p, p]; holds 64 shards' Gram matrices at a time."""
    order = np.argsort(shard_J, kind="stable")
    sorted_Jp = np.ascontiguousarray(a_Jp[order])
    edges = np.searchsorted(shard_J[order], np.arange(replicates.shards + 1))
    p = a_Jp.shape[1]
    total_Rpp = np.zeros((len(replicates.weight_RS), p * p))
    for start in range(0, replicates.shards, _SHARDS_A_CHUNK):
        stop = min(start + _SHARDS_A_CHUNK, replicates.shards)
        gram_Cpp = np.empty((stop - start, p, p))
        for c, s in enumerate(range(start, stop)):
            rows = sorted_Jp[edges[s] : edges[s + 1]]
            np.matmul(rows.T, rows, out=gram_Cpp[c])
        total_Rpp += replicates.weight_RS[:, start:stop] @ gram_Cpp.reshape(stop - start, -1)
    return total_Rpp.reshape(-1, p, p)


def solve_spd(gram_Rpp: Floats, cross_Rpq: Floats, *, relative_ridge: float = 1e-8) -> Floats:
    """Solve G θ = c for every replicate; the ridge only tames columns that are empty or collinear."""
    diagonal_Rp = np.einsum("...pp->...p", gram_Rpp)
    scale_Rp = 1.0 / np.sqrt(np.maximum(diagonal_Rp, 1e-12))
    scaled = gram_Rpp * scale_Rp[..., :, None] * scale_Rp[..., None, :]
    scaled = scaled + relative_ridge * np.eye(gram_Rpp.shape[-1])
    empty_Rp = diagonal_Rp <= 1e-12
    scaled = scaled + empty_Rp[..., :, None] * np.eye(gram_Rpp.shape[-1])
    return np.asarray(np.linalg.solve(scaled, cross_Rpq * scale_Rp[..., :, None]) * scale_Rp[..., :, None])


def wald(value_RQ: Floats, influence_SQ: Floats) -> Floats:
    """vᵀ V⁻¹ v with V = Σ_s influence influenceᵀ, [R]."""
    covariance_QQ = influence_SQ.T @ influence_SQ
    return np.asarray((value_RQ * solve_spd(covariance_QQ, value_RQ.T).T).sum(axis=1))
