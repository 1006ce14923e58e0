"""The compiled pipeline, checked without a server as a server would read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import ParseDict
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from features.errors import ConfigError
from pipelines.compile import compile_training
from pipelines.platform import STORAGE_KEYS, ClusterPlatform

OUTSIDE = {
    "validate-logs",
    "build-journeys",
    "retrieve-features",
    "validate-training-table",
    "attribute",
    "evaluate",
    "register",
    "push",
    "promote",
}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "sweep"])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Any]:
    path = tmp_path_factory.mktemp("ir") / "pipeline.yaml"
    compile_training(path, platform=ClusterPlatform(image="registry/alm-mta:1.2.3"), with_sweep=request.param)
    spec, platform = yaml.safe_load_all(path.read_text())
    return spec, platform


def test_spec_and_kubernetes_settings_parse(compiled: tuple[dict[str, Any], Any]) -> None:
    spec, platform = compiled
    ParseDict(spec, PipelineSpec())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(spec["deploymentSpec"]["executors"])
    for settings in executors.values():
        ParseDict(settings, KubernetesExecutorConfig())


def test_no_reference_dangles(compiled: tuple[dict[str, Any], Any]) -> None:
    spec, _ = compiled
    referred = {task["componentRef"]["name"] for task in _tasks(spec).values()}
    assert referred == set(spec["components"])
    labels = {c["executorLabel"] for c in spec["components"].values() if "executorLabel" in c}
    assert labels == set(spec["deploymentSpec"]["executors"])


def test_every_step_runs_the_named_image_and_installs_nothing(compiled: tuple[dict[str, Any], Any]) -> None:
    spec, _ = compiled
    for executor in spec["deploymentSpec"]["executors"].values():
        assert executor["container"]["image"] == "registry/alm-mta:1.2.3"
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_steps_that_read_the_outside_world_are_never_cached(compiled: tuple[dict[str, Any], Any]) -> None:
    spec, _ = compiled
    cached = {name for name, task in _tasks(spec).items() if task.get("cachingOptions", {}).get("enableCache")}
    steps = {name for name, task in _tasks(spec).items() if not name.startswith("condition")}
    assert cached == steps - OUTSIDE
    assert steps > OUTSIDE


def test_secrets_reach_only_the_step_that_pushes(compiled: tuple[dict[str, Any], Any]) -> None:
    _, platform = compiled
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    secrets = {name: settings["secretAsEnv"] for name, settings in executors.items() if "secretAsEnv" in settings}
    assert list(secrets) == ["exec-push"]
    assert [key["envVar"] for secret in secrets["exec-push"] for key in secret["keyToEnv"]] == ["ALM_MTA_TOKEN_PUSH"]
    assert all(settings["securityContext"]["runAsNonRoot"] for settings in executors.values())


def test_the_key_to_an_object_store_reaches_only_the_steps_that_read_logs(tmp_path: Path) -> None:
    """All of it optional: a secret need not hold a session token or an endpoint."""
    compile_training(tmp_path / "p.yaml", platform=ClusterPlatform(storage_secret="logs-store"), with_sweep=True)
    _, platform = yaml.safe_load_all((tmp_path / "p.yaml").read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    given = {
        name.removeprefix("exec-"): secret
        for name, settings in executors.items()
        for secret in settings.get("secretAsEnv", [])
        if secret["secretName"] == "logs-store"
    }
    assert {"validate-logs", "build-journeys", "retrieve-features", "evaluate"} <= set(given)
    assert not {"train", "sweep", "push", "register"} & set(given)
    for secret in given.values():
        assert tuple(key["envVar"] for key in secret["keyToEnv"]) == STORAGE_KEYS
        assert secret["optional"] is True


def test_the_settings_that_were_searched_reach_training_and_the_record(compiled: tuple[dict[str, Any], Any]) -> None:
    spec, _ = compiled
    tasks = _tasks(spec)
    given = {name: tasks[name]["inputs"]["parameters"]["config"] for name in ("train", "evaluate")}
    searched = {"taskOutputParameter": {"outputParameterKey": "Output", "producerTask": "sweep"}}
    wanted = searched if "sweep" in tasks else {"componentInputParameter": "config"}
    assert given == {"train": wanted, "evaluate": wanted}


def test_equal_settings_compile_to_equal_bytes(tmp_path: Path) -> None:
    compile_training(tmp_path / "a.yaml")
    compile_training(tmp_path / "b.yaml")
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()


@pytest.mark.parametrize("image", ["alm-mta", "registry:5000/alm-mta", "alm-mta:latest"])
def test_an_image_without_a_version_is_refused(image: str) -> None:
    with pytest.raises(ConfigError, match="version"):
        ClusterPlatform(image=image)


def _tasks(spec: dict[str, Any]) -> dict[str, Any]:
    """Tasks of the root and of the conditional branch."""
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    return {name: task for dag in dags for name, task in dag["tasks"].items()}
