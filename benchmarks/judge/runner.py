"""Data sets judged over a pool of processes, and where their records are kept.

WORK/records/<set>/<world>/<users>-<seed>-<fingerprint>.json
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.judge.cases import ELSEWHERE_SEED, ELSEWHERE_USERS, elsewhere
from benchmarks.judge.dataset import CONFIG, SPLIT, prepare, prepare_table
from benchmarks.judge.trial import run_case, run_trial
from benchmarks.judge.zoo import LEVELS
from benchmarks.pool import run_pool
from features.files import read_json, write_json
from validation.worlds import World

FORMAT = 3
"""Raised when records come to hold other figures."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One data set."""

    world_set: str
    name: str
    world: World
    users: int
    seed: int
    trained: tuple[str, ...] = ()
    case: bool = False
    """The battery alone (cases.py), without rankings."""
    broken: bool = False
    """Of a broken candidate."""
    lookback_days: int = SPLIT.lookback_days

    def path(self, work: Path) -> Path:
        settings = {
            "format": FORMAT, "world": asdict(self.world), "trained": self.trained, "levels": LEVELS,
            "config": asdict(CONFIG), "case": self.case, "broken": self.broken,
        }  # fmt: skip
        if self.lookback_days != SPLIT.lookback_days:
            settings["lookback_days"] = self.lookback_days
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        return work / "records" / self.world_set / self.name / f"{self.users}-{self.seed}-{digest}.json"


def missing(trials: Sequence[Trial], work: Path, *, fresh: bool) -> list[Trial]:
    """Trials without a record; with `fresh` all, and their records are gone."""
    if fresh:
        for trial in trials:
            trial.path(work).unlink(missing_ok=True)
    return [trial for trial in trials if not trial.path(work).is_file()]


def read(trial: Trial, work: Path) -> dict[str, Any]:
    return dict(read_json(trial.path(work)))


def run_trials(trials: Sequence[Trial], work: Path, jobs: int, tell: Callable[[int], None]) -> None:
    """Judge them and write their records; `tell` hears how many there are."""
    scratch = work / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    paths = [trial.path(work) for trial in trials]
    run_pool(
        partial(_run, work=work, scratch=scratch), trials, jobs=jobs, log=work / "log.txt",
        tell=lambda: tell(sum(path.is_file() for path in paths)),
    )  # fmt: skip


def _run(trial: Trial, work: Path, scratch: Path) -> None:
    trained = {}
    if trial.trained:
        from benchmarks.methods import METHODS  # many packages

        trained = {name: METHODS[name] for name in trial.trained}
    store = scratch / f"store-{os.getpid()}"
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        judged = prepare(trial.world, trial.users, trial.seed, trained, Path(folder), store, trial.lookback_days)
    other = None
    if trial.broken:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            seed = trial.seed + ELSEWHERE_SEED
            other = prepare_table(elsewhere(trial.world), ELSEWHERE_USERS, seed, Path(folder), store)
    record = run_case(judged, other, trial.seed, CONFIG) if trial.case else run_trial(judged, trial.seed, CONFIG)
    write_json(trial.path(work), record)
