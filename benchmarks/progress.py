"""How far a long computation is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_A_LINE = 30.0


@contextmanager
def progress(
    what: str, total: int, console: Console, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int], None]]:
    """Yield what to call with the number done."""
    if not console.is_terminal:
        yield _lines(what, total, console, clock)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, speed_estimate_period=3600) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def _lines(what: str, total: int, console: Console, clock: Callable[[], float]) -> Callable[[int], None]:
    began = clock()
    said, said_at = 0, began

    def tell(done: int) -> None:
        nonlocal said, said_at
        now = clock()
        if done == said or (now - said_at < SECONDS_A_LINE and done < total):
            return
        said, said_at = done, now
        left = (now - began) / done * (total - done)
        console.print(f"{what}: {done}/{total}, {_minutes(now - began)} so far, about {_minutes(left)} left")

    return tell


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
