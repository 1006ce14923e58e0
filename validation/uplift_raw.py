"""Two judges that confounding fools; labelled columns of the report, never keys.

    raw   u_bk = E[y | b, T_k = 1] − E[y | b, T_k = 0]                         (the paper's protocol)
    IPW   the same with weights 1/e_k(x) and 1/(1 − e_k(x)), normalised (Hájek), e_k = P(T_k = 1 | x)
T_k = the journey has a touch of cluster k. Reference: Hirano, Imbens & Ridder (2003), Econometrica 71(4).

Shapes: R replicates, B buckets, K clusters, J journeys, F basis columns.
"""

from __future__ import annotations

import numpy as np

from validation.buckets import Buckets
from validation.cell_sums import CellSums
from validation.judge_arrays import JudgeArrays
from validation.shards import Floats, Replicates, weighted_sums
from validation.uplift import Uplift

_LEAST_PROPENSITY = 0.02


def uplift_raw(data: JudgeArrays, buckets: Buckets, replicates: Replicates) -> Uplift:
    """Difference of upload rates, touched minus untouched."""
    sums = CellSums.zeros(shards=replicates.shards, buckets=buckets.count, clusters=len(data.cluster_K))
    sums.add(
        shard_J=data.shard_J, bucket_J=buckets.bucket_J, y_J=data.y_J, journey_T=data.journey_T, column_T=data.column_T
    )
    u_RBK = sums.uplift(replicates)
    return Uplift(judge="raw", u_RBK=u_RBK, usable=False, note="confounded by hidden intent: shown, never a key")


def uplift_ipw(data: JudgeArrays, buckets: Buckets, replicates: Replicates, basis_JF: Floats) -> Uplift:
    """The same, weighted by a linear-probability propensity on the profile's basis."""
    treated_JK = (data.dose_JK > 0).astype(np.float64)
    coefficient_FK = np.linalg.lstsq(basis_JF, treated_JK, rcond=None)[0]
    propensity_JK = np.clip(basis_JF @ coefficient_FK, _LEAST_PROPENSITY, 1 - _LEAST_PROPENSITY)
    u_RBK = _difference(data, buckets, replicates, propensity_JK)
    return Uplift(judge="IPW", u_RBK=u_RBK, usable=False, note="adjusts for the profile only: shown, never a key")


def _difference(data: JudgeArrays, buckets: Buckets, replicates: Replicates, propensity_JK: Floats) -> Floats:
    treated_JK = data.dose_JK > 0
    one_JK = treated_JK / propensity_JK
    zero_JK = ~treated_JK / (1 - propensity_JK)
    y_J1 = data.y_J[:, None]
    per_bucket = []
    for b in range(buckets.count):
        rows = buckets.bucket_J == b
        stacked = np.concatenate([one_JK, one_JK * y_J1, zero_JK, zero_JK * y_J1], axis=1)[rows]
        sums_R4K = weighted_sums(stacked, data.shard_J[rows], replicates).reshape(len(replicates.weight_RS), 4, -1)
        n1, y1, n0, y0 = np.moveaxis(sums_R4K, 1, 0)
        both = (n1 > 0) & (n0 > 0)
        difference = y1 / np.where(both, n1, 1.0) - y0 / np.where(both, n0, 1.0)
        per_bucket.append(np.where(both, difference, 0.0))
    return np.stack(per_bucket, axis=1)
