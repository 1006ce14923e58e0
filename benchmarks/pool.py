"""Tasks over a pool of processes of one thread each, whose output goes to a log file."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from features.errors import AlmMtaError
from features.process import FOLLOW_PARENT, end_with_parent

WORKERS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", FOLLOW_PARENT), "1")
"""Their environment: one thread each, and no life after the parent's."""
POLL_S = 0.5

Task = TypeVar("Task")


def run_pool(
    function: Callable[[Task], None], tasks: Sequence[Task], *, jobs: int, log: Path, tell: Callable[[], None]
) -> None:
    """function(task) for every task, in their order; `tell` is called now and then. An exception ends it all.

    Raises AlmMtaError where a worker dies.
    """
    spawn = multiprocessing.get_context("spawn")
    with (
        _environment(WORKERS),
        ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_start_worker, initargs=(log,)) as pool,
    ):
        pending = {pool.submit(function, task) for task in tasks}
        try:
            while pending:
                done, pending = wait(pending, timeout=POLL_S)
                tell()
                for future in done:
                    future.result()
        except BrokenProcessPool as error:
            raise AlmMtaError(
                f"a worker process died, of memory perhaps; what is done is kept, {log} may say more: run again "
                "with fewer --jobs, or smaller data sets"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _start_worker(log: Path) -> None:
    """One thread, output to the log, and no life after the parent's, however that ends."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    torch.set_num_threads(1)
    end_with_parent()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """What spawned processes are born with: libraries read it when they are imported."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
