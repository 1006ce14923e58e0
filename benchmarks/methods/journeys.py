"""Journeys as rows of numbers, for methods that see clusters instead of touches.

    dose_k = Σ_{l: k(l) = k} d(gap_l),   d(gap) = exp(−gap / 24 h),   z = [x, log(1 + n)] standardised on the fit split

n is the negative control: every peer gets it, as the front-door model does. Responses are no covariates: they follow
the treatment. Shapes: J journeys, N touches (flat, journey after journey), K clusters seen in the fit split, Z
covariates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.methods.interface import Floats
from model.data import HOUR_US, JourneyTable

DECAY_HOURS = 24.0
"""Fixed, as the judge's own: no peer is told the world's."""


@dataclass(frozen=True, kw_only=True)
class Journeys:
    """J journeys with N touches."""

    cluster_K: NDArray[np.int64]
    """Index in the schema's clusters."""
    covariate_JZ: Floats
    dose_JK: Floats
    count_JK: Floats
    met_JK: NDArray[np.bool_]
    label_J: Floats
    position_N: NDArray[np.int64]
    """Row of the touch table."""
    journey_N: NDArray[np.int64]
    column_N: NDArray[np.int64]
    """Cluster's column; K for a cluster that the fit split never saw."""
    decay_N: Floats

    def of_touches(self, value_JK: Floats) -> Floats:
        """Each touch's entry, 0 for clusters never seen. [J, K] -> [N]."""
        return np.pad(value_JK, ((0, 0), (0, 1)))[self.journey_N, self.column_N]

    def split_presence(self, effect_JK: Floats) -> Floats:
        """The effect of a cluster's presence, spread over its touches. [J, K] -> [N]."""
        return self.of_touches(effect_JK / np.maximum(self.count_JK, 1))

    def shares(self, weight_N: Floats) -> Floats:
        """Weights that sum to 1 within each journey; equal ones where all are 0. [N] -> [N]."""
        total_J = np.bincount(self.journey_N, weight_N, len(self.label_J))
        length_J = np.bincount(self.journey_N, minlength=len(self.label_J))
        flat_N = total_J[self.journey_N] <= 0
        divisor_N = np.where(flat_N, length_J[self.journey_N], total_J[self.journey_N])
        return np.where(flat_N, 1.0, weight_N) / divisor_N


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a cluster-level method fits on, and what it is asked about."""

    fit: Journeys
    selection: Journeys
    asked: Journeys
    randomised: Journeys | None


def journeys(
    table: JourneyTable,
    row_J: Tensor,
    randomised: JourneyTable | None,
    *,
    fit_rows: int | None = None,
    seed: int = 0,
) -> Data:
    """Fit and selection splits, the rows asked for and all randomised rows, in columns that the fit split sets.

    `fit_rows` bounds the fit journeys, drawn at random: for methods whose time or memory would not.
    """
    fit_J = table.split("fit")
    if fit_rows is not None and len(fit_J) > fit_rows:
        fit_J = fit_J[torch.randperm(len(fit_J), generator=torch.Generator().manual_seed(seed))[:fit_rows]]
    seen_K = np.unique(table.touch_cluster_N[touches(table, fit_J)[0]].numpy())
    return Data(
        fit=_journeys(table, fit_J, table, seen_K),
        selection=_journeys(table, table.split("selection"), table, seen_K),
        asked=_journeys(table, row_J, table, seen_K),
        randomised=None
        if randomised is None
        else _journeys(randomised, torch.arange(len(randomised.keys)), table, seen_K),
    )


def with_covariates(table: JourneyTable, fitted: JourneyTable) -> JourneyTable:
    """The table with z in place of x, scaled by `fitted`'s fit split: how networks get the negative control."""
    raw_JZ, scale_JZ = _raw_covariates(table), _raw_covariates(fitted)[fitted.split("fit")]
    mean_Z, sd_Z = scale_JZ.mean(0), scale_JZ.std(0, correction=0)
    return replace(table, profile_JP=((raw_JZ - mean_Z) / torch.where(sd_Z > 1e-3, sd_Z, 1)).float())


def _raw_covariates(table: JourneyTable) -> Tensor:
    return torch.cat([table.profile_JP, torch.log1p(table.control_JC.clamp_min(0))], 1).double()


def touches(table: JourneyTable, row_J: Tensor) -> tuple[Tensor, Tensor]:
    """Positions in the touch table, and each one's place in row_J. [N] twice."""
    length_J = table.length_J[row_J]
    journey_N = torch.repeat_interleave(torch.arange(len(row_J)), length_J)
    start_J = length_J.cumsum(0) - length_J
    return table.offset_J[row_J][journey_N] + torch.arange(len(journey_N)) - start_J[journey_N], journey_N


def _journeys(table: JourneyTable, row_J: Tensor, fitted: JourneyTable, seen_K: NDArray[np.int64]) -> Journeys:
    position_N, place_N = touches(table, row_J)
    cluster_N = table.touch_cluster_N[position_N].numpy()
    column_N = np.searchsorted(seen_K, cluster_N).clip(max=len(seen_K) - 1)
    column_N = np.where(seen_K[column_N] == cluster_N, column_N, len(seen_K))
    gap_us_N = table.t_obs_J[row_J][place_N] - table.touch_ts_N[position_N]
    decay_N = np.exp(-gap_us_N.numpy() / HOUR_US / DECAY_HOURS)
    shape = (len(row_J), len(seen_K) + 1)
    cell_N = place_N.numpy() * shape[1] + column_N
    count_JK = np.bincount(cell_N, minlength=shape[0] * shape[1]).reshape(shape)[:, :-1]
    return Journeys(
        cluster_K=seen_K,
        covariate_JZ=with_covariates(table, fitted).profile_JP[row_J].double().numpy(),
        dose_JK=np.bincount(cell_N, decay_N, shape[0] * shape[1]).astype(np.float64).reshape(shape)[:, :-1],
        count_JK=count_JK.astype(np.float64),
        met_JK=count_JK > 0,
        label_J=table.label_J[row_J].double().numpy(),
        position_N=position_N.numpy(),
        journey_N=place_N.numpy(),
        column_N=column_N,
        decay_N=decay_N,
    )
