"""A world -> what the judge reads, as a run prepares it, with the truth of every touch.

Three quarters of the users are the judge's, the others train the zoo's models: what counts here is the judge's sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.methods.interface import Floats, Method
from benchmarks.prepared import prepare_logs
from features.errors import AlmMtaError
from features.journeys import JourneyConfig
from model.data import JourneyTable, load_journeys
from validation.judge_arrays import JudgeArrays, sampled_users
from validation.judge_data import load_judge
from validation.measured import JudgeConfig
from validation.truth import load_truth
from validation.worlds import World, simulate

SPLIT = JourneyConfig(fit_share=0.2, selection_share=0.05)
CONFIG = JudgeConfig()
"""The product's own settings."""
RANKED_JOURNEYS = 12_000
"""About so many of the judge's journeys get credits of the trained models: a ranking is their mean by cell."""


@dataclass(frozen=True, kw_only=True)
class JudgedSet:
    """The judge's sample of one world."""

    arrays: JudgeArrays
    truth_T: Floats
    """NaN for touches of an earlier session, where journeys reach back to it."""
    credit_T: dict[str, Floats]
    """Credits of the trained models, NaN where none was asked for."""
    table: JourneyTable | None = None
    """Everybody's journeys, where a candidate is to be tested."""


def prepare(
    world: World, users: int, seed: int, trained: Mapping[str, Method], folder: Path, store: Path,
    lookback_days: int = SPLIT.lookback_days,
) -> JudgedSet:  # fmt: skip
    """Simulate under `folder`, take the logs through journeys and retrieval, and fit the trained models."""
    table = prepare_table(world, users, seed, folder, store, lookback_days)
    split = load_judge(
        journeys_dir=folder / "journeys", data_dir=folder / "data", credits_dir=None,
        min_treated=CONFIG.falsification.min_treated, max_clusters=CONFIG.max_clusters,
        max_journeys=CONFIG.max_journeys,
    )  # fmt: skip
    truth_T = load_truth(folder / "logs", split.keys)
    if truth_T is None:
        raise AlmMtaError(f"{folder / 'logs' / 'truth'}: says nothing of the judged journeys")
    return JudgedSet(
        arrays=split.arrays, truth_T=truth_T, credit_T=_credits(table, split.arrays, trained, seed), table=table
    )


def prepare_table(
    world: World, users: int, seed: int, folder: Path, store: Path, lookback_days: int = SPLIT.lookback_days
) -> JourneyTable:
    """Logs, journeys and features under `folder`, and the journeys as models read them."""
    simulate(world, users, seed, folder / "logs")
    prepare_logs(folder / "logs", folder, replace(SPLIT, lookback_days=lookback_days), store)
    return load_journeys(folder / "journeys", folder / "data")


def _credits(table: JourneyTable, data: JudgeArrays, trained: Mapping[str, Method], seed: int) -> dict[str, Floats]:
    asked_J = sampled_users(data.shard_J, RANKED_JOURNEYS)
    row_J = table.split("judge")[torch.from_numpy(asked_J)]
    credit_T = {name: np.full(len(data.journey_T), np.nan) for name in trained}
    for name, method in trained.items():
        credit_T[name][asked_J[data.journey_T]] = method.run(table, row_J, None, seed).credit_N
    return credit_T
