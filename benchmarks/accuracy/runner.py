"""Computes the records that are missing, a unit a task, over a pool of processes of one thread each.

A task prepares its unit's data once, in a folder that is gone afterwards, runs the methods one after the other and
writes each one's record as it comes. What workers and libraries print goes to a log file.
"""

from __future__ import annotations

import math
import pkgutil
import random
import resource
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy.dataset import DataSet, prepare
from benchmarks.accuracy.metrics import measure
from benchmarks.accuracy.unit import ORACLE, Record, Records, Task, Unit
from benchmarks.methods.interface import Method, Scores
from benchmarks.pool import run_pool
from features.errors import AlmMtaError
from features.settings import one_line


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where workers find methods and leave things."""

    methods: str
    """`module:attribute` of the methods by name: not all of them could be sent to another process."""
    records: Records
    scratch: Path
    """Data sets in use."""
    log: Path


def run_tasks(tasks: Sequence[Task], place: Workplace, jobs: int, tell: Callable[[int], None]) -> None:
    """Run all tasks; `tell` hears now and then how many records there are. A failing method is a record, too.

    Raises AlmMtaError where a worker dies.
    """
    paths = [place.records.path(task.unit, method) for task in tasks for method in task.methods]
    run_pool(
        partial(_run_task, place=place), tasks, jobs=jobs, log=place.log,
        tell=lambda: tell(sum(path.is_file() for path in paths)),
    )  # fmt: skip


def _run_task(task: Task, place: Workplace) -> None:
    run_unit(task.unit, pkgutil.resolve_name(place.methods), task.methods, place.records, place.scratch)


def run_unit(unit: Unit, methods: Mapping[str, Method], wanted: Sequence[str], records: Records, scratch: Path) -> None:
    """Write the records of the `wanted` methods (or of the ORACLE)."""
    try:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            data = prepare(unit, Path(folder))
    except Exception as error:  # the other units can still be computed
        for name in wanted:
            records.write(unit, name, _failure(error))
        return
    for name in wanted:
        try:
            record = oracle_record(data) if name == ORACLE else score(methods[name], data, unit.seed)
        except Exception as error:  # anything a library may raise; the others go on
            record = _failure(error)
        records.write(unit, name, record)


def score(method: Method, data: DataSet, seed: int) -> Record:
    """Figures of one method on one data set."""
    random.seed(seed)  # a library that draws from global generators must not depend on what ran before it
    np.random.seed(seed)
    torch.manual_seed(seed)
    before = _cpu_seconds()
    scores = method.run(data.table, data.row_J, data.randomised_table, seed)
    cpu_s = _cpu_seconds() - before
    _check(scores, data)
    return {"figures": _finite(measure(scores, data.judged, data.randomised)) | {"cpu_s": cpu_s}}


def oracle_record(data: DataSet) -> Record:
    """Figures of the truth itself, and what the unit holds."""
    scores = Scores(credit_N=data.judged.truth_T, p_randomised_J=data.randomised.p_do_J)
    judged = data.judged
    holds = {
        "fit_journeys": len(data.table.split("fit")),
        "judged_journeys": len(data.row_J),
        "judged_uploads": int(judged.arrays.y_J.sum()),
        "judged_touches": len(judged.truth_T),
        "randomised_journeys": len(data.randomised.y_J),
        "mean_effect": float(judged.truth_T.mean()),
        "sd_effect": float(judged.truth_T.std()),
    }
    return {"figures": _finite(measure(scores, judged, data.randomised)), "holds": holds}


def _check(scores: Scores, data: DataSet) -> None:
    sizes = {
        "credit_N": len(data.judged.truth_T),
        "stderr_N": len(data.judged.truth_T),
        "abstained_N": len(data.judged.truth_T),
        "p_J": len(data.row_J),
        "p_randomised_J": len(data.randomised.y_J),
    }
    for name, size in sizes.items():
        values = getattr(scores, name)
        if values is not None and (values.shape != (size,) or not np.isfinite(values).all()):
            raise AlmMtaError(f"{name}: shape {values.shape} or values that are not finite; need ({size},), all finite")


def _finite(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _failure(error: Exception) -> Record:
    return {"failed": f"{type(error).__name__}: {one_line(error)}", "traceback": traceback.format_exc()}


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
