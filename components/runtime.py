"""The inside of a running step: log lines people can read, errors on one line, and an end when the runner ends.

A step's lines look the same on a cluster and locally, `[LEVEL logger] text`; the local runner shows those of
this project. A step that fails logs `[ERROR components.runtime] ErrorType: text` before its traceback.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from features import errors
from features.errors import AlmMtaError, ConfigError, TrainingFailed

LOG_FORMAT = "[%(levelname)s %(name)s] %(message)s"
ERROR_LINE = re.compile(r"^\[ERROR [\w.]+\] (\w+): (.*)$")
RUNNER_FILE = "ALM_MTA_RUNNER_FILE"
"""Environment variable: a file with the local runner's process id; the step ends when either is gone."""

logger = logging.getLogger(__name__)
_children: set[int] = set()


@contextmanager
def step() -> Iterator[None]:
    """Body of every component: logging, the one-line error and the watch over the runner."""
    _configure_logging()
    _follow_runner()
    try:
        yield
    except Exception as error:
        logger.error("%s: %s", type(error).__name__, " ".join(str(error).split()))
        raise


def run_module(module: str, *arguments: str) -> None:
    """Run `python -m module arguments` as a process group of its own, passing its lines on.

    A trainer of several processes re-executes its own program, which must not be the component.
    Where it fails, raises the error that its last line names (`[ERROR logger] Type: text`), else TrainingFailed.
    """
    command = [sys.executable, "-m", module, *arguments]
    last = ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        _children.add(process.pid)
        try:
            for line in process.stdout or ():
                last = line.strip() or last
                print(line, end="", flush=True)  # noqa: T201 - a step's stdout is its log
        except BaseException:
            _kill_group(process.pid)
            raise
        finally:
            _children.discard(process.pid)
    if process.returncode:
        raise _named_error(last) or TrainingFailed(f"`python -m {module}` ended with code {process.returncode}: {last}")


def moment(scheduled_time: str) -> datetime | None:
    """The present of a scheduled run; None (now) for "" and for a placeholder that a manual run left unexpanded.

    Raises ConfigError for any other text that is not ISO 8601.
    """
    if not scheduled_time or scheduled_time.startswith("[["):
        return None
    try:
        return datetime.fromisoformat(scheduled_time)
    except ValueError:
        raise ConfigError(f"scheduled_time = {scheduled_time!r}: give ISO 8601, such as 2026-01-31T03:00:00Z") from None


def _named_error(line: str) -> AlmMtaError | None:
    match = ERROR_LINE.match(line)
    known = getattr(errors, match[1], None) if match else None
    if match is None or not (isinstance(known, type) and issubclass(known, AlmMtaError)):
        return None
    return TrainingFailed(match[2]) if known is errors.BadLogsError else known(match[2])


def _configure_logging() -> None:
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stdout))
    for handler in root.handlers:
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
    root.setLevel(logging.INFO)


def _follow_runner() -> None:
    """End this process, and what it started, when the local runner that started it has gone."""
    if runner_file := os.environ.get(RUNNER_FILE):
        threading.Thread(target=_watch, args=(Path(runner_file),), daemon=True).start()


def _watch(runner_file: Path, seconds: float = 0.5) -> None:
    while runner_alive(runner_file):
        time.sleep(seconds)
    for child in list(_children):
        _kill_group(child)
    os._exit(128 + signal.SIGTERM)


def runner_alive(runner_file: Path) -> bool:
    """Whether the file is there and the process it names is alive."""
    try:
        os.kill(int(runner_file.read_text()), 0)
    except (OSError, ValueError):
        return False
    return True


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
