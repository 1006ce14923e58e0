"""A world -> what the judge reads, as a run prepares it, with the truth of every touch.

Three quarters of the users are the judge's, the others train the zoo's models: what counts here is the judge's sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.methods.interface import Method
from benchmarks.prepared import prepare_logs
from features.errors import AlmMtaError
from features.journeys import JourneyConfig
from model.data import load_journeys
from validation.falsification import FalsificationConfig
from validation.judge_arrays import JudgeArrays
from validation.judge_data import load_judge
from validation.shards import Floats
from validation.truth import load_truth
from validation.worlds import World, simulate

SPLIT = JourneyConfig(fit_share=0.2, selection_share=0.05)
MAX_CLUSTERS = 64


@dataclass(frozen=True, kw_only=True)
class JudgedSet:
    """The judge's sample of one world."""

    arrays: JudgeArrays
    truth_T: Floats
    credit_T: dict[str, Floats]
    """Credits of the trained models."""


def prepare(world: World, users: int, seed: int, trained: Mapping[str, Method], folder: Path) -> JudgedSet:
    """Simulate under `folder`, take the logs through journeys and retrieval, and fit the trained models."""
    simulate(world, users, seed, folder / "logs")
    prepare_logs(folder / "logs", folder, SPLIT)
    split = load_judge(
        journeys_dir=folder / "journeys", data_dir=folder / "data", credits_dir=None,
        min_treated=FalsificationConfig().min_treated, max_clusters=MAX_CLUSTERS,
    )  # fmt: skip
    truth_T = load_truth(folder / "logs", split.keys)
    if truth_T is None or not np.isfinite(truth_T).all():
        raise AlmMtaError(f"{folder / 'logs' / 'truth'}: says nothing of some touches of the judged journeys")
    credit_T = {}
    if trained:
        table = load_journeys(folder / "journeys", folder / "data")
        row_J = table.split("judge")
        credit_T = {name: method.run(table, row_J, None, seed).credit_N for name, method in trained.items()}
    return JudgedSet(arrays=split.arrays, truth_T=truth_T, credit_T=credit_T)
