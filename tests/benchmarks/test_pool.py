"""The pool's workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def comes_true(question: Callable[[], bool], seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while not question() and time.monotonic() < ends:
        time.sleep(0.05)
    return question()


@pytest.mark.slow
def test_a_worker_does_not_outlive_a_benchmark_that_was_killed(tmp_path: Path) -> None:
    told = tmp_path / "worker"
    user = Path(__file__).with_name("pool_user.py")
    with subprocess.Popen([sys.executable, str(user), str(told)], stderr=subprocess.DEVNULL) as benchmark:
        assert comes_true(told.is_file, 120)
        worker = int(told.read_text())
        benchmark.kill()
    if not comes_true(lambda: not Path(f"/proc/{worker}").exists(), 20):
        os.kill(worker, signal.SIGKILL)
        pytest.fail("the worker lives on")
