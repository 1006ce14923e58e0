from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from pipelines.result import ModelVersion, RunResult, Verdict

KEYS = {
    "verdict", "approved", "reasons", "run_id", "failed_step", "model", "metrics", "attributions", "report",
    "data_docs", "plan", "timings",
}  # fmt: skip


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_every_ending_writes_every_key(tmp_path: Path, verdict: Verdict) -> None:
    RunResult(verdict=verdict, reasons=("because",)).write(tmp_path / "result.json", tmp_path / "copy.json")
    written = json.loads((tmp_path / "result.json").read_text())
    assert set(written) == KEYS
    assert set(written["model"]) == {"name", "version", "sha256"}
    assert written["approved"] == (verdict == "approved")
    assert (tmp_path / "copy.json").read_bytes() == (tmp_path / "result.json").read_bytes()


def test_metrics_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    model = ModelVersion(name="m", version="1", sha256="0" * 64)
    RunResult(verdict="approved", reasons=(), model=model, metrics={"a": float("nan"), "b": 1}).write(
        tmp_path / "r.json"
    )
    assert json.loads((tmp_path / "r.json").read_text())["metrics"] == {"b": 1.0}


@pytest.mark.parametrize(
    ("verdict", "code"),
    [("approved", 0), ("unchanged", 0), ("rejected", 1), ("inconclusive", 1), ("refused", 1)],
)
def test_exit_code(verdict: Verdict, code: int) -> None:
    assert RunResult(verdict=verdict, reasons=()).exit_code == code
    assert RunResult(verdict=verdict, reasons=(), failed_step="plan").exit_code == 1
