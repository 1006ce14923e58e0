from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kfp import dsl

from components.outputs import log_metrics, log_roc, publish_bundle, quality_summary
from components.runtime import present, run_module
from features.errors import ConfigError, TrainingFailed
from features.journey_files import part_file


def test_metrics_that_kfp_cannot_take_are_left_out(tmp_path: Path) -> None:
    artifact = dsl.Metrics(name="metrics", uri=str(tmp_path / "metrics"))
    log_metrics(artifact, {"b": float("nan"), "a": 0.25, "c": float("inf")})
    assert artifact.metadata == {"a": 0.25}
    assert Path(artifact.path).exists()


@pytest.mark.parametrize("text", ["", "[[ScheduledTime.2006-01-02T15:04:05Z]]", "2001-01-31T03:00:00Z", "2001-01-31"])
def test_without_a_slot_or_after_it_the_present_is_now(text: str) -> None:
    before = datetime.now(UTC)
    assert before <= present(text) <= datetime.now(UTC)


@pytest.mark.parametrize("zone", ["Z", "", "+00:00"])
def test_a_slot_that_this_clock_has_not_reached_is_the_present(zone: str) -> None:
    slot = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    assert present(slot.strftime("%Y-%m-%dT%H:%M:%S") + zone) == slot


def test_a_slot_that_is_no_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="scheduled_time"):
        present("tomorrow")


def test_a_module_that_fails_names_its_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainingFailed, match="has one class only"):
        run_module("tests.components.failing", "typed")
    assert "[ERROR __main__] TrainingFailed" in capfd.readouterr().out
    with pytest.raises(TrainingFailed, match=r"tests\.components\.failing.*RuntimeError: broke"):
        run_module("tests.components.failing", "untyped")


def test_a_module_does_not_outlive_a_step_that_was_killed() -> None:
    code = "from components.runtime import run_module; run_module('tests.components.lasting')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as step:
        assert step.stdout is not None
        module = int(step.stdout.readline())
        os.kill(module, 0)
        step.kill()
    for _ in range(100):
        if not Path(f"/proc/{module}").exists():
            return
        time.sleep(0.05)
    os.kill(module, signal.SIGKILL)
    pytest.fail("the module lives on")


def test_a_bundle_is_published_once_under_its_hash(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    name = publish_bundle(bundle, tmp_path / "store")
    assert name == publish_bundle(bundle, tmp_path / "store")
    assert [folder.name for folder in (tmp_path / "store").iterdir()] == [name]
    assert (tmp_path / "store" / name / "manifest.json").read_text() == "{}"


def test_quality_summary_lists_suites_and_warnings() -> None:
    summary = quality_summary(
        [
            {"suite": "touchpoints", "success": True, "warnings": []},
            {"suite": "uploads", "success": False, "warnings": ["days are missing"]},
        ]
    )
    assert "| touchpoints | passed |" in summary
    assert "- uploads: days are missing" in summary


def test_roc_of_a_perfect_score_touches_the_corner(tmp_path: Path) -> None:
    import pandas as pd

    journeys, credits = tmp_path / "journeys", tmp_path / "credits"
    (journeys / "journeys").mkdir(parents=True)
    (credits / "diagnostics").mkdir(parents=True)
    pd.DataFrame({"journey_id": range(4), "label": [0, 0, 1, 1]}).to_parquet(journeys / part_file("journeys", 0))
    scored = {"journey_id": range(4), "split": "judge", "p_obs": [0.1, 0.2, 0.8, 0.9]}
    pd.DataFrame(scored).to_parquet(credits / "diagnostics" / "journeys.parquet")
    artifact = dsl.ClassificationMetrics(name="roc", uri=str(tmp_path / "roc"))
    log_roc(artifact, journeys, credits)
    points = artifact.metadata["confidenceMetrics"]
    assert any(point["recall"] == 1.0 and point["falsePositiveRate"] == 0.0 for point in points)
