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
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from features import errors
from features.errors import AlmMtaError, ConfigError, TrainingFailed
from features.process import FOLLOW_PARENT

if TYPE_CHECKING:
    from features.reader import Logs

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
    It ends with this process, even where that is killed (features/process.py). Where it fails, raises the error that
    its last line names (`[ERROR logger] Type: text`), else TrainingFailed.
    """
    command = [sys.executable, "-m", module, *arguments]
    last = ""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {FOLLOW_PARENT: "1"},
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


def opened_logs(logs: str, config: str, scheduled_time: str) -> Logs:
    """The logs, read as the config's section `contract` says and checked against the data contract."""
    from features.reader import open_logs
    from features.settings import ContractConfig, load_section

    names = load_section(config, "contract", ContractConfig)
    return open_logs(logs, mapping=names.mapping, now=present(scheduled_time))


def present(scheduled_time: str) -> datetime:
    """What no log may be later than: now, or the slot of a scheduled run where that is later (clocks differ).

    "" is no slot, nor is a placeholder that a manual run left unexpanded. A time without a zone is UTC.
    Raises ConfigError for any other text that is not ISO 8601.
    """
    now = datetime.now(UTC)
    if not scheduled_time or scheduled_time.startswith("[["):
        return now
    try:
        slot = datetime.fromisoformat(scheduled_time)
    except ValueError:
        raise ConfigError(f"scheduled_time = {scheduled_time!r}: give ISO 8601, such as 2026-01-31T03:00:00Z") from None
    return max(now, slot if slot.tzinfo else slot.replace(tzinfo=UTC))


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
