"""Commands killed at random moments, which must end with the bytes of one that nothing disturbed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file under `folder`, by its name in it."""
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def unfinished(folder: Path) -> list[Path]:
    """What killed processes left half-written anywhere in `folder`, by its temporary names."""
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


def kill_ten_times(
    code: str,
    arguments: Sequence[Path],
    out: Path,
    expected: Mapping[Path, bytes],
    *,
    within_s: float,
    beside: Sequence[Path] = (),
) -> None:
    """Run Python `code`, which says `begins` and then writes `out`; a SIGKILL comes within so many seconds after.

    Whenever `out` is there it must be whole; it then goes, with what lies `beside` it, and is written anew.
    """
    rng = np.random.default_rng(3)
    kills = 0
    while kills < 10:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            time.sleep(rng.uniform(0, within_s))
            process.send_signal(signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
        if out.exists():
            assert contents(out) == expected
            for folder in (out, *beside):
                shutil.rmtree(folder)
