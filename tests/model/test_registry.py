"""A real MLflow: sqlite registry, aliases, and the registered pyfunc in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import Trained

from features.errors import RegistryError
from features.files import write_json
from model.bundle import bundle_sha256
from model.registry import champion, promote, record, register
from model.settings import RegistryConfig

LOAD = """
import sys, mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/alm-mta@champion")
rows = pd.DataFrame({"item_id": [[1, 2], [3]], "cluster_id": [[0, 1], [10**6]], "gap_hours": [[1.0, 0.0], [0.0]]})
print(model.predict(rows)["delta"].map(len).tolist())
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RegistryConfig:
    root = tmp_path_factory.mktemp("mlflow")
    return RegistryConfig(tracking_uri=f"sqlite:///{root / 'mlflow.db'}", artifact_root=(root / "artifacts").as_uri())


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    write_json(folder / "decision.json", {"verdict": "approved", "reasons": ["better"], "metrics": {"auuc": 0.7}})
    return folder


def test_from_judged_to_champion(settings: RegistryConfig, evaluation: Path, trained: Trained, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    assert champion(settings, tmp_path) is None
    run = record(settings, trained.bundle, evaluation, {"train": {"seed": 7}})
    version = register(settings, trained.bundle, evaluation)
    assert version.sha256 == bundle_sha256(trained.bundle)
    assert register(settings, trained.bundle, evaluation).version == version.version, "a slot may fire twice"
    assert champion(settings, tmp_path / "none") is None, "registered is not promoted"
    promote(settings, version.version)
    found = champion(settings, tmp_path / "champion")
    assert found is not None
    assert (found.version, found.sha256) == (version.version, version.sha256)
    client = MlflowClient(settings.tracking_uri)
    kept = client.get_run(run).data
    assert kept.metrics["auuc"] == 0.7
    assert kept.params["train.seed"] == "7"
    assert len(client.get_metric_history(run, "selection_loss")) > 1
    assert client.get_model_version(settings.model_name, version.version).run_id == run


def test_the_champion_scores_in_a_fresh_process(settings: RegistryConfig, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, settings.tracking_uri], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [2, 1]


def test_nothing_in_the_store_is_a_pickle(settings: RegistryConfig) -> None:
    root = Path(settings.artifact_root.removeprefix("file://"))
    names = {path.suffix for path in root.rglob("*") if path.is_file()}
    assert names
    assert not names & {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".ckpt"}


def test_an_unknown_version_cannot_be_promoted(settings: RegistryConfig) -> None:
    with pytest.raises(RegistryError, match="alm-mta v99"):
        promote(settings, "99")
