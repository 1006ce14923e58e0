"""The stopwatch measures what it says, and its result is complete enough to repeat."""

from __future__ import annotations

import importlib.metadata
import json
import time

import pytest

from benchmarks.speed_stages import StageTime, Stopwatch, result_of, to_markdown


def test_wall_and_cpu_time_are_told_apart() -> None:
    watch = Stopwatch()
    with watch.stage("sleeps", "naps", lambda: 3):
        time.sleep(0.2)
    with watch.stage("works", "sums", lambda: 1):
        stop = time.process_time() + 0.2
        while time.process_time() < stop:
            pass
    sleeping, working = watch.stages
    assert sleeping.wall_s >= 0.2
    assert sleeping.cpu_s < 0.1
    assert sleeping.rate == pytest.approx(3 / sleeping.wall_s)
    assert 0.2 <= working.cpu_s <= working.wall_s + 0.1
    assert 0 < sleeping.peak_mib <= working.peak_mib


def test_rows_are_asked_after_the_stage() -> None:
    seen: list[int] = []
    watch = Stopwatch()
    with watch.stage("fills", "rows", lambda: len(seen)):
        seen.extend([1, 2, 3])
    assert watch.stages[0].rows == 3


def test_result_names_command_versions_and_every_stage() -> None:
    stages = [
        StageTime(stage="open_logs", rows=1_000, unit="rows", wall_s=1.0, cpu_s=0.5, peak_mib=100.0),
        StageTime(stage="train", rows=6_000, unit="journeys", wall_s=3.0, cpu_s=4.0, peak_mib=300.0),
    ]
    result = result_of(stages, "python -m benchmarks.speed_stages --users 10", users=10, seed=7, world="logit")
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["total_wall_s"] == 4.0
    assert result["versions"]["torch"] == importlib.metadata.version("torch")
    table = to_markdown(result)
    assert "`python -m benchmarks.speed_stages --users 10`" in table
    assert "| train | 3.0 | 75% | 4.0 | 2,000 journeys/s | 300 |" in table
