"""`alm-mta gate --replay`: from a file, and from a run in a real MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from features.files import write_json
from pipelines.cli import main
from validation.gate import GateConfig, Key, decide, to_record

OBS = Key(
    judge="OBS", usable=True, note="", delta=0.02, se=0.008, delta_b=(0.02,), se_b=(0.008,), share_b=(1.0,), area=0.03,
    area_se=0.008, oracle=0.05, luck=0.0,
)  # fmt: skip
KEYS = [OBS, replace(OBS, judge="FD", delta=0.03)]


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """As `evaluate` stores it, of a challenger that is 2.5 standard errors above its champion."""
    decision = decide(KEYS, champion="champion v3", journeys=10_000)
    gate = {**to_record(KEYS, [], GateConfig()), "champion": "champion v3", "journeys": 10_000}
    write_json(
        tmp_path / "evaluation.json",
        {"verdict": decision.verdict, "reasons": list(decision.reasons), "gate": gate},
    )
    return tmp_path / "evaluation.json"


def test_the_stored_decision_comes_again(evaluation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for named in (evaluation, evaluation.parent):
        assert main(["gate", "--replay", str(named)]) == 0
        said = capsys.readouterr().out
        assert said.startswith("approved: better than champion v3 by both judges")
        assert said.endswith("as stored\n")


def test_other_thresholds_decide_otherwise_and_say_so(evaluation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", "--replay", str(evaluation), "--confidence-z", "4"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("inconclusive: not surely better than champion v3")
    assert "confidence_z 4, stored 1.96" in said
    assert "stored was approved" in said


def test_a_run_in_mlflow_is_found_by_its_id(
    evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    workdir = tmp_path / "work"
    workdir.mkdir()
    client = MlflowClient(f"sqlite:///{workdir / 'mlflow.db'}")
    experiment = client.create_experiment("alm-mta", (workdir / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_artifact(run, str(evaluation), "evaluation")
    assert main(["gate", "--replay", run, "--workdir", str(workdir)]) == 0
    assert capsys.readouterr().out.startswith("approved")
    empty = client.create_run(experiment).info.run_id
    assert main(["gate", "--replay", empty, "--workdir", str(workdir)]) == 1
    assert f"run {empty}: no evaluation can be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--replay RUN names what to decide again"),
        (["--replay", "0123", "--workdir", "nowhere"], "no such file, and no nowhere/mlflow.db"),
        (["--replay", "{evaluation}", "--guard-z", "-1"], "every threshold must be positive"),
    ],
)
def test_what_cannot_be_replayed_is_a_usage_error(
    arguments: list[str], message: str, evaluation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", *(argument.format(evaluation=evaluation) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_a_file_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "evaluation.json", {"verdict": "approved"})
    assert main(["gate", "--replay", str(tmp_path)]) == 2
    assert "holds no evaluation of the gate" in capsys.readouterr().err
