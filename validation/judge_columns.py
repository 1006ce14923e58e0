"""Columns of the judge's tables -> the arrays of `JudgeArrays`: clusters, counts and responses. Pure functions.

Shapes: J journeys, T touches, N rows of a table beside them, K clusters, R responses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from validation.buckets import RARE, clusters_to_keep
from validation.judge_arrays import Bools, LaterTouches
from validation.shards import Floats, Ints, bin_sums


def cluster_columns(
    cluster_T: NDArray[np.generic], journey_T: Ints, min_treated: int, max_clusters: int
) -> tuple[Ints, Ints]:
    """Cluster ids of the columns, RARE last where clusters were merged, and each touch's column."""
    distinct, index_T = np.unique(cluster_T.astype(np.int64), return_inverse=True)
    pair_T = np.sort(index_T * (journey_T[-1] + 1) + journey_T)
    first_T = np.append(True, pair_T[1:] != pair_T[:-1])
    treated_K = np.bincount(pair_T[first_T] // (journey_T[-1] + 1), minlength=len(distinct))
    kept = clusters_to_keep(treated_K, min_treated=min_treated, most=max_clusters)
    column_of = np.full(len(distinct), len(kept))
    column_of[kept] = np.arange(len(kept))
    merged = len(kept) < len(distinct)
    cluster_K = np.concatenate([distinct[kept], [RARE]]) if merged else distinct[kept]
    return cluster_K, column_of[index_T]


def sum_JK(row_N: Ints, column_N: Ints, value_N: Floats, J: int, K: int) -> Floats:  # noqa: N802
    """Sums of the rows that share journey and column, [J, K]."""
    return bin_sums(row_N * K + column_N, value_N, J * K).reshape(J, K)


def post_counts(post: pd.DataFrame, journey_id_J: Ints, cluster_K: Ints) -> Floats | None:
    """Post-horizon touches per journey and column."""
    if post.empty:
        return None
    row_N, column_N, ours_N = _places(post["journey_id"].to_numpy(), post["cluster_id"], journey_id_J, cluster_K)
    count_N = post["n_touches"].to_numpy(dtype=np.float64)[ours_N]
    return sum_JK(row_N, column_N, count_N, len(journey_id_J), len(cluster_K))


def later_arrays(
    touches: dict[str, NDArray[np.generic]], journey_id_J: Ints, cluster_K: Ints, names: tuple[str, ...]
) -> LaterTouches | None:
    """The touches after the horizon with the responses `names`; None without either."""
    if not names or not len(touches["journey_id"]):
        return None
    row_N, column_N, ours_N = _places(touches["journey_id"], touches["cluster_id"], journey_id_J, cluster_K)
    order = np.argsort(row_N, kind="stable")
    response_NR = np.stack([_centred(_number(name, touches[name][ours_N])) for name in names], axis=1)
    return LaterTouches(journey_N=row_N[order], column_N=column_N[order], response_NR=response_NR[order])


def _places(
    journey_id_N: NDArray[np.generic],
    cluster_N: NDArray[np.generic] | pd.Series[Any],
    journey_id_J: Ints,
    cluster_K: Ints,
) -> tuple[Ints, Ints, Bools]:
    """Row and column of those rows that have one, and which have; clusters without a column are RARE where that is."""
    order = np.argsort(journey_id_J, kind="stable")
    id_N = journey_id_N.astype(np.int64)
    place_N = np.minimum(np.searchsorted(journey_id_J[order], id_N), len(order) - 1)
    row_N = order[place_N]
    column_of = {int(cluster): column for column, cluster in enumerate(cluster_K)}
    column_N = pd.Series(cluster_N).map(column_of).fillna(column_of.get(RARE, -1)).to_numpy(dtype=np.int64)
    ours_N = (journey_id_J[row_N] == id_N) & (column_N >= 0)
    return row_N[ours_N], column_N[ours_N], ours_N


def response_numbers(touches: dict[str, NDArray[np.generic]], names: list[str]) -> dict[str, Floats]:
    """Responses that vary, as centred numbers, [T] each."""
    numbers = {name: _number(name, touches[name]) for name in names}
    return {
        name: _centred(value_T)
        for name, value_T in numbers.items()
        if np.isfinite(value_T).any() and np.nanstd(value_T) > 1e-9
    }


def _number(name: str, value: NDArray[np.generic]) -> Floats:
    """Half the logit of watch_ratio, flags as 0/1."""
    number = value.astype(np.float64)
    if name != "watch_ratio":
        return number
    clipped = np.clip(number, 0.02, 0.98)
    return np.log(clipped / (1 - clipped)) / 2


def _centred(value: Floats) -> Floats:
    """Less its mean; a missing value becomes 0."""
    present = np.isfinite(value)
    return np.where(present, value - (value[present].mean() if present.any() else 0.0), 0.0)
