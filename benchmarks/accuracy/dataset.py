"""A unit's data: the journeys that methods see, the truth of those they are asked about, and an experiment beside it.

The experiment is the same world with every exposure drawn at random, and other people: no method is fitted on them.
Where the world drifts, methods are fitted on journeys before `test_from_day` and asked about those after it.

Shapes: J journeys, T touches.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.accuracy.metrics import Bools, Judged, Randomised
from benchmarks.accuracy.unit import Unit
from benchmarks.methods.journeys import touches
from benchmarks.prepared import prepare_logs
from features.errors import AlmMtaError
from model.data import HOUR_US, JourneyTable, load_journeys
from validation.buckets import make_buckets, profile_basis
from validation.judge_arrays import DECAY_HOURS, JudgeArrays, exposure_of
from validation.judge_data import TouchKeys, shard_of
from validation.shards import Ints, bin_sums
from validation.truth import load_p_do, load_truth
from validation.worlds import World, simulate
from validation.worlds.tables import DAY_US, EPOCH_US

BUCKETS = 5


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What a method is given, and what is known."""

    table: JourneyTable
    row_J: Tensor
    """Rows of the table that methods are asked about."""
    judged: Judged
    randomised_table: JourneyTable
    randomised: Randomised


def prepare(unit: Unit, folder: Path) -> DataSet:
    """Simulate under `folder`, and take the logs through journeys and retrieval, as a run does."""
    day = unit.world.test_from_day
    table = _journeys(unit.world, unit.users, unit.seed, folder / "observed")
    table = table if day is None else split_by_day(table, day)
    row_J = table.split("judge")
    experiment = dataclasses.replace(unit.world, randomised_share=1.0)
    trial = _journeys(experiment, unit.randomised_users, unit.seed, folder / "randomised", schema=table.schema)
    trial = trial if day is None else only(trial, _late(trial, day))
    return DataSet(
        table=table,
        row_J=row_J,
        judged=judge(table, row_J, folder / "observed" / "logs"),
        randomised_table=trial,
        randomised=_outcomes(trial, folder / "randomised" / "logs"),
    )


def _journeys(world: World, users: int, seed: int, folder: Path, schema: dict[str, Any] | None = None) -> JourneyTable:
    simulate(world, users, seed, folder / "logs")
    prepare_logs(folder / "logs", folder)
    return load_journeys(folder / "journeys", folder / "data", schema)


def split_by_day(table: JourneyTable, day: float) -> JourneyTable:
    """Fit and select before `day`, judge from it on; what is on the other side belongs to no split."""
    used_J = _late(table, day) == (table.keys["split"] == "judge").to_numpy()
    return dataclasses.replace(table, keys=table.keys.assign(split=table.keys["split"].where(used_J, "unused")))


def _late(table: JourneyTable, day: float) -> Bools:
    return np.asarray(table.t_obs_J.numpy() >= EPOCH_US + day * DAY_US)


def only(table: JourneyTable, kept_J: Bools) -> JourneyTable:
    """The table of these journeys alone: every field that has a row a journey, by its name, is cut."""
    row_J = torch.from_numpy(np.flatnonzero(kept_J))
    cut = {
        field.name: getattr(table, field.name)[row_J]
        for field in dataclasses.fields(table)
        if re.search(r"_J[A-Z]*$", field.name)
    }
    return dataclasses.replace(table, keys=table.keys[kept_J].reset_index(drop=True), **cut)


def judge(table: JourneyTable, row_J: Tensor, logs_root: Path) -> Judged:
    """What is known of the rows. Raises AlmMtaError where the world says nothing of one of their touches."""
    position_T, journey_T = (part_T.numpy() for part_T in touches(table, row_J))
    user_J = table.keys["user_id"].to_numpy(np.int64)[row_J.numpy()]
    t_obs_J, ts_T = table.t_obs_J[row_J].numpy(), table.touch_ts_N[position_T].numpy()
    item_I = np.append(table.catalogue.item_id_I, -1)
    author_I = np.append(table.catalogue.author_id_I, -1)
    item_T = table.touch_item_N[position_T].numpy()
    keys = TouchKeys(user_T=user_J[journey_T], t_obs_T=t_obs_J[journey_T], ts_T=ts_T, item_T=item_I[item_T])
    truth_T = load_truth(logs_root, keys)
    if truth_T is None or not np.isfinite(truth_T).all():
        raise AlmMtaError(f"{logs_root / 'truth'}: says nothing of some touches of the judged journeys")
    arrays = _arrays(table, row_J, user_J, journey_T, position_T)
    buckets = make_buckets(
        basis_JF=profile_basis(arrays.x_JP), y_J=arrays.y_J, shard_J=arrays.shard_J, dose_JK=arrays.dose_JK,
        most=BUCKETS, min_treated=0,
    )  # fmt: skip
    last_T = np.diff(journey_T, append=len(row_J)) > 0
    return Judged(
        arrays=arrays,
        buckets=buckets,
        exposure=exposure_of(arrays, buckets),
        truth_T=truth_T,
        last_T=last_T,
        user_J=user_J,
        author_J=author_I[item_T[last_T]],
    )


def _arrays(table: JourneyTable, row_J: Tensor, user_J: Ints, journey_T: Ints, position_T: Ints) -> JudgeArrays:
    """The rows as the judge's own functions take them; what no metric reads is left empty."""
    J, K = len(row_J), len(table.schema["clusters"]) + 1
    column_T = table.touch_cluster_N[position_T].numpy()
    gap_us_T = table.t_obs_J[row_J].numpy()[journey_T] - table.touch_ts_N[position_T].numpy()
    decay_T = np.exp(-gap_us_T / HOUR_US / DECAY_HOURS)
    return JudgeArrays(
        shard_J=shard_of(user_J),
        y_J=table.label_J[row_J].numpy().astype(np.float64),
        n_J=np.zeros(J),
        covered_J=np.zeros(J),
        x_JP=table.profile_JP[row_J].numpy().astype(np.float64),
        cluster_K=np.arange(K),
        dose_JK=bin_sums(journey_T * K + column_T, decay_T, J * K).reshape(J, K),
        post_JK=None,
        journey_T=journey_T,
        column_T=column_T,
        decay_T=decay_T,
        response_TR=None,
    )


def _outcomes(trial: JourneyTable, logs_root: Path) -> Randomised:
    p_do_J = load_p_do(logs_root, trial.keys["user_id"].to_numpy(np.int64), trial.t_obs_J.numpy())
    if not np.isfinite(p_do_J).all():
        raise AlmMtaError(f"{logs_root / 'truth'}: says nothing of some randomised journeys")
    return Randomised(y_J=trial.label_J.numpy().astype(np.float64), p_do_J=p_do_J)
