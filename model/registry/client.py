"""Runs, versions and aliases. Alias `challenger` = approved, `champion` = what the allocator serves.

A version is a pyfunc from code whose only artefact is the bundle; nothing in it is pickled. A bundle is known by its
SHA-256, so that registering it twice finds the version that it has.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature

import features
import model
from features.errors import BundleError, ConfigError, RegistryError
from features.files import read_json
from model.bundle import bundle_sha256, verify_bundle
from model.registry.signature import signature_of
from model.settings import RegistryConfig

logger = logging.getLogger(__name__)

CHALLENGER, CHAMPION = "challenger", "champion"
BUNDLE = "bundle"
PRIVATE = {"registry.tracking_uri", "registry.artifact_root"}
"""Settings that may carry credentials; no run keeps them."""
REQUIREMENTS = ("torch", "numpy", "pandas", "pyarrow", "pyyaml", "safetensors", "onnx", "lightning", "mlflow")


@dataclass(frozen=True, kw_only=True)
class Version:
    """A registered version of the model."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Champion(Version):
    """The version under the alias champion, with its bundle on disk."""

    bundle: Path


def champion_version(settings: RegistryConfig) -> Version | None:
    """What the alias champion names; None before the first promotion."""
    with _client(settings) as client:
        try:
            found = client.get_model_version_by_alias(settings.model_name, CHAMPION)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" or "alias champion not found" in error.message:
                return None
            raise RegistryError(
                f"registry: cannot look up the champion of {settings.model_name}: {error.message}"
            ) from error
    sha256 = found.tags.get("sha256")
    if sha256 is None:
        raise RegistryError(
            f"{settings.model_name} v{found.version} is no version of this pipeline: it has no tag sha256"
        )
    return Version(name=settings.model_name, version=str(found.version), sha256=sha256)


def champion(settings: RegistryConfig, folder: Path) -> Champion | None:
    """The champion, its bundle downloaded into `folder` and verified; None before the first promotion.

    Raises RegistryError where the store has lost or altered it.
    """
    known = champion_version(settings)
    if known is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    with _client(settings):
        try:
            source = mlflow.artifacts.download_artifacts(f"models:/{known.name}/{known.version}", dst_path=str(folder))
            (bundle,) = (Path(source) / "artifacts").iterdir()  # MLflow keeps the name of the folder that was logged
            verify_bundle(bundle)
        except (MlflowException, BundleError, OSError, ValueError) as error:
            raise RegistryError(
                f"{known.name} v{known.version}: its bundle cannot be read from the store ({error}); "
                "restore the artefacts or promote another version"
            ) from error
    if bundle_sha256(bundle) != known.sha256:
        raise RegistryError(
            f"{known.name} v{known.version}: the registry says {known.sha256[:12]}, its bundle is "
            f"{bundle_sha256(bundle)[:12]}; it was altered after registration. Promote another version"
        )
    return Champion(name=known.name, version=known.version, sha256=known.sha256, bundle=bundle)


def record(settings: RegistryConfig, bundle: Path, evaluation: Path, parameters: Mapping[str, Any]) -> str:
    """Keep a judged candidate as an MLflow run, approved or not: settings, curves, metrics, decision, report.

    Returns the run's id.
    """
    decision = read_json(evaluation / "decision.json")
    sha256 = bundle_sha256(bundle)
    with _client(settings) as client:
        run = client.create_run(_experiment(client, settings), run_name=f"{decision['verdict']}-{sha256[:8]}")
        run_id: str = run.info.run_id
        now = run.info.start_time
        final = [Metric(name, float(value), now, 0) for name, value in sorted(decision["metrics"].items())]
        curves = [
            Metric(name, float(value), now, int(row["epoch"]))
            for row in read_json(bundle / "history.json")["epochs"]
            for name, value in sorted(row.items())
            if name != "epoch"
        ]
        tags = {"sha256": sha256, "verdict": decision["verdict"], "reason": "; ".join(decision["reasons"])[:5000]}
        client.log_batch(
            run_id,
            metrics=final + curves,
            params=[
                Param(name, str(value)) for name, value in sorted(_flat(parameters).items()) if name not in PRIVATE
            ],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        client.log_artifacts(run_id, str(evaluation), "evaluation")
        client.set_terminated(run_id)
    return run_id


def evaluation_of(settings: RegistryConfig, run_id: str, folder: Path) -> Path:
    """The folder of evaluation.json that `record` kept with a run, downloaded into `folder`."""
    with _client(settings) as client:
        try:
            return Path(client.download_artifacts(run_id, "evaluation", str(folder)))
        except (MlflowException, OSError) as error:
            raise RegistryError(f"run {run_id}: no evaluation can be read from the server ({error})") from error


def register(settings: RegistryConfig, bundle: Path, evaluation: Path) -> Version:
    """The bundle's version under the alias challenger; made now unless this very bundle has one."""
    manifest = verify_bundle(bundle)
    sha256 = bundle_sha256(bundle)
    with _client(settings) as client:
        version = _known_version(client, settings, sha256)
        if version is None:
            run_id = _run_of(client, settings, sha256) or record(settings, bundle, evaluation, {})
            version = _log_version(settings, bundle, run_id, signature_of(manifest["schema"]))
            logger.info("%s v%s registered, bundle %s", settings.model_name, version, sha256[:12])
        client.set_model_version_tag(settings.model_name, version, "sha256", sha256)
        client.set_registered_model_alias(settings.model_name, CHALLENGER, version)
    return Version(name=settings.model_name, version=version, sha256=sha256)


def promote(settings: RegistryConfig, version: str) -> None:
    """Move the alias champion to `version`."""
    with _client(settings) as client:
        try:
            client.set_registered_model_alias(settings.model_name, CHAMPION, version)
        except MlflowException as error:
            raise RegistryError(f"cannot promote {settings.model_name} v{version}: {error.message}") from error
    logger.info("%s v%s is the champion", settings.model_name, version)


def _log_version(settings: RegistryConfig, bundle: Path, run_id: str, signature: ModelSignature) -> str:
    with mlflow.start_run(run_id=run_id):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc.py")),
            artifacts={BUNDLE: str(bundle)},
            code_paths=[str(Path(package.__path__[0])) for package in (features, model)],
            signature=signature,
            pip_requirements=[f"{name}=={installed_version(name).split('+')[0]}" for name in REQUIREMENTS],
            registered_model_name=settings.model_name,
        )
    return str(logged.registered_model_version)


def _known_version(client: MlflowClient, settings: RegistryConfig, sha256: str) -> str | None:
    """The latest version of this bundle; by its run where a kill came between making and tagging the version."""
    versions = client.search_model_versions(f"name = '{settings.model_name}'")
    same = [int(v.version) for v in versions if (v.tags.get("sha256") or _sha256_of_run(client, v.run_id)) == sha256]
    return str(max(same)) if same else None


def _sha256_of_run(client: MlflowClient, run_id: str | None) -> str | None:
    return client.get_run(run_id).data.tags.get("sha256") if run_id else None


def _run_of(client: MlflowClient, settings: RegistryConfig, sha256: str) -> str | None:
    """The latest run that recorded this bundle."""
    found = client.search_runs(
        [_experiment(client, settings)], f"tags.sha256 = '{sha256}'", order_by=["start_time DESC"], max_results=1
    )
    return str(found[0].info.run_id) if found else None


def _experiment(client: MlflowClient, settings: RegistryConfig) -> str:
    known = client.get_experiment_by_name(settings.experiment)
    if known is not None:
        return str(known.experiment_id)
    return str(client.create_experiment(settings.experiment, settings.artifact_root or None))


@contextmanager
def _client(settings: RegistryConfig) -> Iterator[MlflowClient]:
    """A client on the configured server; nothing of MLflow's leaks into a log but its warnings."""
    if not settings.tracking_uri:
        raise ConfigError("registry.tracking_uri is empty: name an MLflow server or sqlite:///FILE")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(settings.tracking_uri)
    mlflow.set_registry_uri(settings.tracking_uri)
    yield MlflowClient(settings.tracking_uri, settings.tracking_uri)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
