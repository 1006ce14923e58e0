"""Buckets of users who are alike in profile, and the cells (bucket x cluster) that the judges can measure.

Buckets are quantiles of a cross-fitted P(y | x): x alone, never the touches nor the negative control. A cell's
'treated' are its bucket's journeys with at least one touch of its cluster. Buckets are made fewer, then the rarest
clusters merged into one called RARE, until the median cell has `min_treated`.

Shapes: J journeys, T touches, K clusters, P profile columns, F columns of the profile's basis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from validation.logistic import cross_fit_logistic
from validation.shards import Floats, Ints

RARE = -1
FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """`bucket_J` in 0..count-1 by rising propensity; `treated_BK`; `why` says why there are no more of them."""

    bucket_J: Ints
    propensity_J: Floats
    count: int
    treated_BK: Ints
    why: str

    @property
    def median_treated(self) -> int:
        """Treated journeys of the median cell."""
        return int(np.median(self.treated_BK))


def profile_basis(x_JP: Floats) -> Floats:
    """F = [1, x, x² − 1]: standardised columns, a square for those with more than two values, [J, F]."""
    columns = [np.ones(len(x_JP))]
    for column_J in np.asarray(x_JP, dtype=np.float64).T:
        sd = column_J.std()
        if sd < 1e-9:
            continue
        standard_J = (column_J - column_J.mean()) / sd
        columns.append(standard_J)
        if len(np.unique(column_J[:5_000])) > 2:
            columns.append(np.clip(standard_J, -5, 5) ** 2 - 1)
    return np.stack(columns, axis=1)


def treated_counts(dose_JK: Floats, bucket_J: Ints, buckets: int) -> Ints:
    """Journeys with at least one touch of the cluster, [B, K]."""
    return np.stack([(dose_JK[bucket_J == b] > 0).sum(axis=0) for b in range(buckets)])


def make_buckets(
    *, basis_JF: Floats, y_J: Floats, shard_J: Ints, dose_JK: Floats, most: int, min_treated: int
) -> Buckets:
    """At most `most` quantile buckets such that the median cell has `min_treated`, one where nothing else does."""
    if basis_JF.shape[1] == 1:
        bucket_J, propensity_J = np.zeros(len(y_J), dtype=np.int64), np.full(len(y_J), y_J.mean())
        treated_BK = treated_counts(dose_JK, bucket_J, 1)
        why = "one bucket: there are no profiles"
        return Buckets(bucket_J=bucket_J, propensity_J=propensity_J, count=1, treated_BK=treated_BK, why=why)
    propensity_J = cross_fit_logistic(basis_JF, y_J, shard_J % FOLDS, FOLDS)
    for wanted in range(most, 0, -1):
        inner_edges = np.quantile(propensity_J, np.arange(1, wanted) / wanted)
        raw_J = np.searchsorted(inner_edges, propensity_J, side="right")
        present, bucket_J = np.unique(raw_J, return_inverse=True)
        treated_BK = treated_counts(dose_JK, bucket_J, len(present))
        if np.median(treated_BK) >= min_treated:
            break
    count = len(present)
    why = (
        ""
        if count == most
        else f"{count} of {most} buckets: more would leave the median cell under {min_treated:,} treated"
    )
    return Buckets(
        bucket_J=bucket_J.astype(np.int64), propensity_J=propensity_J, count=count, treated_BK=treated_BK, why=why
    )  # fmt: skip


def clusters_to_keep(treated_K: Ints, *, min_treated: int, most: int, fewest: int = 10) -> Ints:
    """Indices of the clusters that stay on their own; the others merge into RARE.

    Clusters under a fifth of `min_treated` go; then the rarest, while the median of those left is under
    `min_treated` and more than `fewest` are left; never more than `most` stay. Where even that does not help, nothing
    is merged but what is beyond `most`.
    """
    order = np.argsort(-treated_K, kind="stable")
    large = order[treated_K[order] >= min_treated / 5][:most]
    if len(large) < fewest:  # too little data for a judge anyway: show the clusters as they are
        return np.sort(order[:most])
    kept = large
    while len(kept) > fewest and _median_with_rare(treated_K, kept) < min_treated:
        kept = kept[:-1]
    return np.sort(kept if _median_with_rare(treated_K, kept) >= min_treated else large)


def _median_with_rare(treated_K: Ints, kept: Ints) -> float:
    """Median over the kept clusters and RARE, which has at least as many treated as its largest member."""
    merged_K = np.delete(treated_K, kept)
    return float(np.median(np.append(treated_K[kept], merged_K.max()) if len(merged_K) else treated_K[kept]))
