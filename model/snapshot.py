"""What the inputs looked like when a model was fitted: histograms, from which the judge reads drift.

    clusters    touches of the fit split's journeys by cluster of the schema, the last bin for unknown ones
    responses   the same touches by tenth of each response, then the missing ones
    profile     fit journeys by tenth of each encoded profile column
Tenths are quantiles of the split that the snapshot was taken of first; later logs are counted in the same bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data import JourneyTable

JOURNEYS = 100_000
"""Of the fit split, from here to twice as many at most: a histogram needs no more."""

Snapshot = dict[str, Any]
"""journeys, edges {name: upper edges of all bins but the last}, and per group {name: counts}."""


def take_snapshot(table: JourneyTable, edges: Mapping[str, list[float]] | None = None) -> Snapshot:
    """Histograms of the fit split; `edges` are those of an earlier snapshot to be compared with."""
    fit_J = table.split("fit")
    row_B = fit_J[:: max(len(fit_J) // JOURNEYS, 1)]
    position_BL, mask_BL = table.positions(row_B)
    position_N = position_BL[mask_BL]
    columns = {
        "clusters": {"cluster": table.touch_cluster_N[position_N].numpy()},
        "responses": _named(table.schema["responses"], table.response_NR[position_N].numpy()),
        "profile": _named(_profile_names(table.schema["profile"]), table.profile_JP[row_B].numpy()),
    }
    every = {name: values for group in columns.values() for name, values in group.items()}
    edges = edges or {
        name: _edges(values) if name != "cluster" else list(range(len(table.schema["clusters"])))
        for name, values in every.items()
    }
    counts = {
        group: {name: _counts(values, edges[name]) for name, values in of.items()} for group, of in columns.items()
    }
    return {"journeys": len(row_B), "edges": dict(edges), **counts}


def _named(names: list[str], value_NC: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return dict(zip(names, value_NC.T, strict=False))


def _profile_names(profile: list[dict[str, Any]]) -> list[str]:
    """One name an encoded column (features/encoding.py)."""
    names = []
    for spec in profile:
        kinds = [None] if spec["kind"] == "numeric" else [*spec["categories"], "any other"]
        names += [spec["column"] if kind is None else f"{spec['column']} = {kind}" for kind in kinds]
    return [*names, "profile_missing"] if names else []


def _edges(value_N: NDArray[Any]) -> list[float]:
    """Distinct deciles but the largest value: a flag has the one edge 0."""
    known_N = value_N[np.isfinite(value_N)]
    if not len(known_N):
        return []
    deciles = np.unique(np.quantile(known_N, np.arange(1, 10) / 10, method="inverted_cdf"))
    return [float(edge) for edge in deciles if edge < known_N.max()]


def _counts(value_N: NDArray[Any], edges: list[float]) -> list[int]:
    """Values up to each edge, those above the last, and the missing ones."""
    missing_N = ~np.isfinite(value_N)
    bin_N = np.where(missing_N, len(edges) + 1, np.searchsorted(edges, value_N, side="left"))
    return [int(count) for count in np.bincount(bin_N, minlength=len(edges) + 2)]
