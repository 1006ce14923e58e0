"""What a piece of work costs, in a process of its own that has done nothing else.

A task is a function `prepare(**arguments)` named "module:function", which returns the work: a function without
arguments. Imports and preparation are not timed; `rows` and `answer` of what the work returns are read afterwards.
"""

from __future__ import annotations

import json
import os
import pkgutil
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from features.errors import AlmMtaError

_MARK = "measured: "


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a work hands back: rows of its result, and what must be equal between contestants."""

    rows: int = 0
    answer: Any = None


Work = Callable[[], Callable[[], Outcome]]
"""Is timed; what it returns is called afterwards."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the work took, and what its process had taken before."""

    cpu_s: float
    """CPU seconds of the process and its children."""
    wall_s: float
    """Elapsed seconds."""
    peak_mib: float
    """Largest resident set of the process so far, start-up included."""
    read_mb: float
    """Bytes asked of files and sockets, 1e6, whether or not the page cache had them; 0 but on Linux."""
    written_mb: float
    """Bytes handed to them."""
    startup_cpu_s: float
    """CPU seconds before the work: interpreter, imports, preparation."""
    rows: int
    """Rows of the result."""
    answer: Any
    """What must be equal between contestants."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A quantity over the repetitions."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median=statistics.median(values), least=min(values), most=max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.least:.3g} to {self.most:.3g})"


def in_process(task: str, arguments: Mapping[str, Any]) -> Cost:
    """The cost of a task in a fresh interpreter. Raises AlmMtaError with the end of its output where it fails."""
    command = [sys.executable, "-m", "benchmarks.speed.measure", task, json.dumps(arguments, default=str)]
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    found = [line for line in run.stdout.splitlines() if line.startswith(_MARK)]
    if run.returncode or not found:
        raise AlmMtaError(f"{task} failed: {(run.stderr or run.stdout)[-2_000:]}")
    return Cost(**json.loads(found[-1].removeprefix(_MARK)))


def measure(task: str, arguments: Mapping[str, Any]) -> Cost:
    """The cost of a task in this process."""
    work: Work = pkgutil.resolve_name(task)(**arguments)
    startup, (read, written), began = _cpu_seconds(), _bytes(), time.perf_counter()
    finish = work()
    wall, cpu = time.perf_counter() - began, _cpu_seconds() - startup
    (read_now, written_now), peak = _bytes(), _peak_mib()
    outcome = finish()
    return Cost(
        cpu_s=cpu, wall_s=wall, startup_cpu_s=startup, peak_mib=peak,
        read_mb=(read_now - read) / 1e6, written_mb=(written_now - written) / 1e6,
        rows=outcome.rows, answer=outcome.answer,
    )  # fmt: skip


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _proc(file: str) -> dict[str, str]:
    path = Path("/proc/self") / file
    return dict(line.split(":", 1) for line in path.read_text().splitlines()) if path.exists() else {}


def _bytes() -> tuple[int, int]:
    counted = _proc("io")
    return int(counted.get("rchar", 0)), int(counted.get("wchar", 0))


def _peak_mib() -> float:
    # ru_maxrss of a child begins with its parent's peak; VmHWM does not.
    high = _proc("status").get("VmHWM")
    return int(high.split()[0]) / 1024 if high else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    cost = measure(sys.argv[1], json.loads(sys.argv[2]))
    sys.stdout.write(f"\n{_MARK}{json.dumps(asdict(cost))}\n")
    sys.stdout.flush()
    os._exit(0)  # the interpreter's end is not measured, and libraries complain in it
