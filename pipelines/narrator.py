"""Turns what kfp's local runner prints into steady progress: one line a step, and the step's own log lines.

Everything is kept in a log file; on screen come only the start and end of steps, the lines that this
project's loggers wrote inside them (`[LEVEL logger] text`), and, while a step is silent, its running time.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
STARTED = re.compile(r"Executing task '([^']+)'")
ENDED = re.compile(r"Task '([^']+)' finished with status (SUCCESS|FAILURE)")
CACHED = re.compile(r"Task (\S+) cache hit")
OWN_LINE = re.compile(
    r"^\s*\[(INFO|WARNING|ERROR) (?:__main__|features|validation|model|allocator|components|pipelines)\b[^\]]*\] (.*)$"
)
STEP_ERROR = re.compile(r"^\s*\[ERROR components\.runtime\] (\w+): (.*)$")


@dataclass(frozen=True, kw_only=True)
class StepFailure:
    """Why a step failed."""

    step: str
    """Task name, such as `build-journeys`."""
    error: str
    """Class name of the exception."""
    text: str
    """Its message on one line."""


@dataclass(kw_only=True)
class Narration:
    """What was heard: seconds a step, steps taken from the cache, the first failure."""

    seconds: dict[str, float] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)
    failure: StepFailure | None = None


class Narrator(io.TextIOBase):
    """A stream that stands in for stdout while kfp runs a pipeline locally."""

    def __init__(self, console: Console, log: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.narration = Narration()
        self._console, self._log, self._clock = console, log, clock
        self._partial = ""
        self._step: str | None = None
        self._since = self._last_shown = clock()
        self._error: tuple[str, str] | None = None

    def write(self, text: str) -> int:
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._hear(COLOUR.sub("", line))
        return len(text)

    def flush(self) -> None:
        self._log.flush()

    def still_running(self, silence_s: float) -> None:
        """Say that a step is still running when nothing was shown for `silence_s` seconds."""
        if self._step and self._clock() - self._last_shown > silence_s:
            self._show(f"[dim]    … {self._elapsed():.0f} s[/]")

    def _hear(self, line: str) -> None:
        self._log.write(line + "\n")
        if match := STARTED.search(line):
            self._start(match[1])
        elif match := ENDED.search(line):
            self._end(match[1], match[2] == "SUCCESS")
        elif match := CACHED.search(line):
            self.narration.cached.append(match[1])
            self._show(f"[green]✓[/] {title(match[1])} [dim](finished before, kept)[/]")
        elif match := OWN_LINE.match(line):
            self._say(line, level=match[1], text=match[2])

    def _start(self, step: str) -> None:
        self._step, self._since, self._error = step, self._clock(), None
        self._show(f"[bold cyan]▸[/] [bold]{title(step)}[/]")

    def _end(self, step: str, success: bool) -> None:
        seconds = self._elapsed()
        self.narration.seconds[step] = round(seconds, 3)
        self._step = None
        mark = "[green]✓[/]" if success else "[red]✗[/]"
        self._show(f"{mark} {title(step)} [dim]{seconds:.1f} s[/]")
        if not success and self.narration.failure is None:
            error, text = self._error or ("RuntimeError", "the step ended without saying why; see the log")
            self.narration.failure = StepFailure(step=step, error=error, text=text)

    def _say(self, line: str, *, level: str, text: str) -> None:
        if match := STEP_ERROR.match(line):
            self._error = (match[1], match[2])
        style = {"INFO": "dim", "WARNING": "yellow", "ERROR": "red"}[level]
        self._show(f"[{style}]    {escape(text)}[/]")

    def _show(self, markup: str) -> None:
        self._last_shown = self._clock()
        self._console.print(markup, highlight=False, soft_wrap=True)

    def _elapsed(self) -> float:
        return self._clock() - self._since


@contextmanager
def narrated(console: Console, log_path: Path, silence_s: float = 15.0) -> Iterator[Narration]:
    """Listen to stdout and the root logger, the two voices of kfp's local runner."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    console.file = console.file  # a Console asks for sys.stdout anew at every print: keep the real one
    with log_path.open("a", buffering=1) as log, _spinner(console):
        narrator = Narrator(console, log)
        with redirect_stdout(narrator), _root_logger_to(narrator), _every_second(narrator, silence_s):
            yield narrator.narration


def title(step: str) -> str:
    """`build-journeys` -> `Build journeys`."""
    return step.replace("-", " ").capitalize()


@contextmanager
def _root_logger_to(stream: TextIO | io.TextIOBase) -> Iterator[None]:
    """kfp reports cache hits through the root logger, outside its own logging context."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [logging.StreamHandler(stream)]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def _every_second(narrator: Narrator, silence_s: float) -> Iterator[None]:
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(1.0):
            narrator.still_running(silence_s)

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _spinner(console: Console) -> Iterator[None]:
    """A running clock under the lines, on terminals only."""
    if not console.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("[dim]running[/]"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as progress:
        progress.add_task("run")
        yield
