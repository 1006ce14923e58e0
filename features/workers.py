"""One function over many tasks: here, over processes, or as tasks of a Ray cluster that sees the same files."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from features.errors import AlmMtaError
from features.process import FOLLOW_PARENT, end_with_parent

logger = logging.getLogger(__name__)

RETRIES = 5
"""How often Ray tries a task again whose node or process died."""

Task = TypeVar("Task")


def over(function: Callable[[Task], None], tasks: Sequence[Task], *, jobs: int = 1, ray_address: str = "") -> None:
    """Call function(task) for every task; which comes first is open.

    The first exception ends it all. A task whose process, or Ray node, dies is tried again on Ray; here, it raises
    AlmMtaError.
    """
    if ray_address:
        finished = _on_ray(function, tasks, ray_address)
    elif jobs == 1 or len(tasks) < 2:
        finished = map(function, tasks)
    else:
        finished = _over_processes(function, tasks, min(jobs, len(tasks)))
    for done, _ in enumerate(finished, start=1):
        if len(tasks) > 1:
            logger.info("%d of %d done", done, len(tasks))


def _over_processes(function: Callable[[Task], None], tasks: Sequence[Task], jobs: int) -> Iterator[None]:
    spawn = multiprocessing.get_context("spawn")
    with _followed(), ProcessPoolExecutor(jobs, mp_context=spawn, initializer=end_with_parent) as pool:
        try:
            for future in as_completed([pool.submit(function, task) for task in tasks]):
                yield future.result()
        except BrokenProcessPool as error:
            raise AlmMtaError(
                f"one of {jobs} worker processes died, of memory perhaps: run again with fewer shards.jobs, which goes "
                "on with what is done, or with smaller shards.touches, which begins anew"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _followed() -> Iterator[None]:
    """Processes started now end with this one."""
    before = os.environ.get(FOLLOW_PARENT)
    os.environ[FOLLOW_PARENT] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FOLLOW_PARENT]


def _on_ray(function: Callable[[Task], None], tasks: Sequence[Task], address: str) -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ours = not ray.is_initialized()
    if ours:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    try:
        remote: Any = ray.remote(max_retries=RETRIES)(_call)
        running = [remote.remote(function, task) for task in tasks]
        while running:
            (ready,), running = ray.wait(running)
            yield ray.get(ready)
    finally:
        if ours:
            ray.shutdown()


def _call(function: Callable[[Task], None], task: Task) -> None:
    """Ray's tasks are plain functions; `function` may be a partial one."""
    function(task)
