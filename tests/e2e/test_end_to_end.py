"""`alm-mta run` from the outside: approve, run again, kill and resume, refuse. Minutes each."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from corruptions import KINDS
from object_stores import SECRET, s3_server
from s3fs import S3FileSystem

from allocator import client
from allocator.embedded import embedded
from allocator.settings import token_from_environment
from model.settings import TrainConfig
from validation.worlds import WORLDS, simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CRITEO = os.environ.get("ALM_MTA_CRITEO_LOGS")
SMALL = ("--train.max_epochs", "3", "--train.min_steps", "60")
USERS, NULL_USERS, SMALL_USERS = 20_000, 8_000, 2_000


@dataclass(frozen=True, kw_only=True)
class Ran:
    """An ended run."""

    code: int
    screen: str
    complaint: str
    result: dict[str, Any]


def _command(logs: Path | str, workdir: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli", "run", "--logs", str(logs), "--workdir", str(workdir), *options]


def _run(logs: Path | str, workdir: Path, *options: str) -> Ran:
    ended = subprocess.run(_command(logs, workdir, *options), capture_output=True, text=True, check=False)
    assert (workdir / "result.json").exists(), ended.stderr
    result = json.loads((workdir / "result.json").read_text())
    return Ran(code=ended.returncode, screen=ended.stdout, complaint=ended.stderr, result=result)


def _world(name: str, users: int, folder: Path) -> Path:
    simulate(WORLDS[name], users, 7, folder / "logs")
    return folder / "logs"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _world("logit", USERS, tmp_path_factory.mktemp("logit"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _world("logit", SMALL_USERS, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def approved(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    workdir = tmp_path_factory.mktemp("approved")
    return workdir, _run(logs, workdir)


def test_a_world_with_effects_ends_in_a_champion_that_serves(approved: tuple[Path, Ran]) -> None:
    workdir, ran = approved
    assert ran.code == 0, ran.complaint
    assert ran.result["verdict"] == "approved"
    model = ran.result["model"]
    assert model["version"] == "1"
    assert ran.result["plan"]["model"] == model
    assert 0 < ran.result["plan"]["spent"] <= 1000
    assert ran.result["metrics"]["truth_corr"] > 0.5 > ran.result["metrics"]["truth_corr_naive"]
    assert all(Path(ran.result[place]).exists() for place in ("report", "attributions", "data_docs"))
    assert (workdir / "models" / model["sha256"] / "score.onnx").exists()
    assert "KFP Executor" not in ran.screen
    assert set(ran.result["timings"]) > {"train", "evaluate", "total"}


def test_everywhere_the_same_numbers(approved: tuple[Path, Ran]) -> None:
    """result.json, the Kubeflow metrics, MLflow, the stored evaluation and the report tell one story."""
    from mlflow import MlflowClient

    from validation.formats import number

    workdir, ran = approved
    metrics, (step,) = ran.result["metrics"], list(workdir.glob("runs/*/steps/*/evaluate"))
    assert len(metrics) > 20
    assert json.loads((step / "metrics").read_text()) == metrics
    (run,) = MlflowClient(f"sqlite:///{workdir / 'mlflow.db'}").search_runs(["1"], "tags.verdict = 'approved'")
    assert {name: run.data.metrics[name] for name in metrics} == metrics
    assert json.loads((step / "evaluation" / "evaluation.json").read_text())["metrics"] == metrics
    page = Path(ran.result["report"]).read_text()
    shown = dict(re.findall(r'<code>(\w+)</code></th><td class="n">([^<]*)</td>', page))
    assert {name: shown[name] for name in metrics} == {name: number(value, 4) for name, value in metrics.items()}


def test_credits_carry_the_decision(approved: tuple[Path, Ran]) -> None:
    """Beside the Parquet files, where no reader of them stumbles over it."""
    _, ran = approved
    folder = Path(ran.result["attributions"])
    decision = json.loads((folder / "_decision.json").read_text())
    assert (decision["verdict"], decision["violations"]) == ("approved", [])
    assert "delta" in pq.read_table(folder).column_names


def test_the_same_run_again_is_unchanged_bit_for_bit(approved: tuple[Path, Ran], logs: Path) -> None:
    """Also in an allocator that lost everything, where the champion must serve again."""
    workdir, first = approved
    shutil.rmtree(workdir / "allocator")
    again = _run(logs, workdir)
    with embedded(workdir / "allocator", workdir / "models") as url:
        serving = client.current_model(url, token=token_from_environment("allocate"))
    assert {name: serving[name] for name in again.result["model"]} == first.result["model"]
    assert (again.code, again.result["verdict"]) == (0, "unchanged")
    assert again.result["model"] == first.result["model"]
    assert again.result["run_id"] != first.result["run_id"]
    assert _credits(again) == _credits(first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_corrupted_copy_is_refused_and_the_champion_stays(
    approved: tuple[Path, Ran], kind: str, tmp_path: Path
) -> None:
    workdir, first = approved
    simulate(WORLDS["logit"], 50, 1, tmp_path / "logs")
    corrupt, table, named = KINDS[kind]
    corrupt(tmp_path / "logs")
    refused = _run(tmp_path / "logs", workdir)
    assert (refused.code, refused.result["verdict"]) == (1, "refused")
    last = refused.complaint.splitlines()[-1]
    assert f"table '{table}'" in last
    assert named in last
    assert refused.result["model"] == first.result["model"]
    assert "train" not in refused.result["timings"]


@pytest.fixture(scope="module")
def untouched(small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    workdir = tmp_path_factory.mktemp("untouched")
    return workdir, _run(small, workdir, *SMALL)


def test_a_run_killed_in_training_goes_on_in_training_to_the_same_weights(
    untouched: tuple[Path, Ran], small: Path, tmp_path: Path
) -> None:
    workdir, whole = untouched
    with subprocess.Popen(
        _command(small, tmp_path / "killed", *SMALL), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "front door: epoch 2 of" in line:
                break
        process.send_signal(signal.SIGKILL)
    time.sleep(3)  # the steps notice that their runner is gone
    resumed = _run(small, tmp_path / "killed", *SMALL)
    assert "front door: resumed at step" in resumed.screen
    assert resumed.screen.count("finished before, kept") == 4
    assert _bundle(tmp_path / "killed") == _bundle(workdir)
    assert resumed.result["verdict"] == whole.result["verdict"]


def test_logs_in_an_object_store_end_in_the_same_credits(
    untouched: tuple[Path, Ran], small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the key to the store is in nothing that the run wrote or said."""
    with s3_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        store = S3FileSystem(skip_instance_cache=True)
        store.mkdir("bucket")
        store.put(f"{small}/", "bucket/day/logs/", recursive=True)
        ran = _run("s3://bucket/day/logs", tmp_path / "work", *SMALL)
    _, here = untouched
    assert ran.result["verdict"] == here.result["verdict"], ran.complaint
    assert ran.result["metrics"] == here.result["metrics"]
    assert "truth_corr" in ran.result["metrics"]
    assert _credits(ran) == _credits(here)
    assert SECRET not in ran.screen + ran.complaint
    written = [file for file in (tmp_path / "work").rglob("*") if file.is_file()]
    assert len(written) > 50
    assert not [file for file in written if SECRET.encode() in file.read_bytes()]


def test_the_best_settings_of_a_sweep_reach_training_and_the_record(small: Path, tmp_path: Path) -> None:
    _run(small, tmp_path / "work", *SMALL, "--sweep.trials", "2")
    (best_yaml,) = (tmp_path / "work").glob("runs/*/steps/*/sweep/trials/best.yaml")
    (bundle_yaml,) = (tmp_path / "work").glob("runs/*/steps/*/train/model/config.yaml")
    best, bundle = yaml.safe_load(best_yaml.read_text()), yaml.safe_load(bundle_yaml.read_text())
    assert bundle["model"] == best["model"]
    with closing(sqlite3.connect(tmp_path / "work" / "mlflow.db")) as registry:
        recorded = registry.execute("SELECT value FROM params WHERE key = 'train.learning_rate'").fetchall()
    assert recorded == [(str(best["train"]["learning_rate"]),)]
    assert best["train"]["learning_rate"] != TrainConfig().learning_rate


def test_a_world_without_effects_promotes_nothing(tmp_path: Path) -> None:
    ran = _run(_world("no-effect", NULL_USERS, tmp_path), tmp_path / "work")
    _assert_nothing_promoted(ran, tmp_path / "work")
    assert ran.result["verdict"] in ("rejected", "inconclusive")


def test_logs_without_mediator_evidence_are_credited_but_promote_nothing(small: Path, tmp_path: Path) -> None:
    bare = tmp_path / "logs"
    for table, columns in (
        ("touchpoints", ["user_id", "item_id", "author_id", "cluster_id", "ts"]),
        ("uploads", ["user_id", "upload_id", "ts"]),
    ):
        (bare / table).mkdir(parents=True)
        pq.write_table(pq.read_table(small / table, columns=columns), bare / table / "part-0.parquet")
    _assert_refused_for_lack_of_evidence(_run(bare, tmp_path / "work", *SMALL), tmp_path / "work")


@pytest.mark.skipif(CRITEO is None, reason="needs the Criteo logs (ALM_MTA_CRITEO_LOGS)")
def test_criteo_is_credited_but_promotes_nothing(tmp_path: Path) -> None:
    _assert_refused_for_lack_of_evidence(
        _run(Path(str(CRITEO)), tmp_path / "work", "--train.max_epochs", "2"), tmp_path / "work"
    )


def _assert_refused_for_lack_of_evidence(ran: Ran, workdir: Path) -> None:
    _assert_nothing_promoted(ran, workdir)
    assert "mediator evidence" in ran.complaint.splitlines()[-1]
    assert "mediator evidence" in Path(ran.result["report"]).read_text()
    assert Path(ran.result["attributions"], "part-0.parquet").exists()


def _assert_nothing_promoted(ran: Ran, workdir: Path) -> None:
    assert ran.code == 1
    assert not ran.result["approved"]
    assert ran.result["model"] == {"name": None, "version": None, "sha256": None}
    assert not list((workdir / "models").iterdir())
    assert ran.complaint.splitlines()[-1].startswith(ran.result["verdict"])


def _credits(ran: Ran) -> bytes:
    return Path(ran.result["attributions"], "part-0.parquet").read_bytes()


def _bundle(workdir: Path) -> str:
    (manifest,) = workdir.glob("runs/*/steps/*/train/model/manifest.json")
    return manifest.read_text()
