"""One run, or a recurring run on new logs, on a Kubeflow server; `dry_run` says exactly what would be sent."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import ConfigError
from pipelines.compile import compile_training
from pipelines.platform import ClusterPlatform

logger = logging.getLogger(__name__)

SCHEDULED_TIME = "[[ScheduledTime.2006-01-02T15:04:05Z]]"
"""Kubeflow fills this in when a recurring run starts; a manual run passes it on as it is, which means none."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What is sent to a Kubeflow server."""

    host: str
    """Kubeflow Pipelines API; empty = what the environment of kfp says."""
    namespace: str
    """Profile of a multi-user server; empty = none."""
    experiment: str
    """Experiment that groups the runs."""
    name: str
    """Name of the run or of the recurring run."""
    arguments: dict[str, str]
    """The pipeline's parameters."""
    platform: ClusterPlatform
    """Kubernetes settings that are compiled into the pipeline."""
    with_sweep: bool = False
    """Search settings before training."""
    cron: str = ""
    """Six fields, seconds first; empty = one run now."""

    def __post_init__(self) -> None:
        if self.cron and len(self.cron.split()) != 6:
            raise ConfigError(
                f"cron = {self.cron!r} has {len(self.cron.split())} fields: Kubeflow wants six, seconds first, "
                "such as '0 0 3 * * *' for every day at 03:00"
            )


def send(submission: Submission, *, dry_run: bool) -> dict[str, Any]:
    """Submit or schedule; returns the calls with their arguments, sent or (dry run) not.

    A recurring run cannot be updated: one of the same name is replaced, new one first, so that no slot is lost.
    """
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "alm-mta-training.yaml"
        compile_training(package, platform=submission.platform, with_sweep=submission.with_sweep)
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        calls = _schedule_calls(submission, digest) if submission.cron else _run_calls(submission, digest)
        if not dry_run:
            _schedule(submission, calls, package) if submission.cron else _run(submission, calls, package)
        return {"host": submission.host or "from kfp's environment", "dry_run": dry_run, "calls": calls}


def _run_calls(submission: Submission, digest: str) -> dict[str, dict[str, Any]]:
    return {
        "create_run_from_pipeline_package": {
            "pipeline_package_sha256": digest,
            "arguments": submission.arguments,
            "run_name": submission.name,
            "experiment_name": submission.experiment,
            "namespace": submission.namespace or None,
        }
    }


def _schedule_calls(submission: Submission, digest: str) -> dict[str, dict[str, Any]]:
    return {
        "upload_pipeline_version": {
            "pipeline_name": "alm-mta-training",
            "pipeline_version_name": digest[:16],
            "pipeline_package_sha256": digest,
        },
        "create_recurring_run": {
            "job_name": submission.name,
            "cron_expression": submission.cron,
            "no_catchup": True,
            "max_concurrency": 1,
            "params": submission.arguments | {"scheduled_time": SCHEDULED_TIME},
        },
    }


def _run(submission: Submission, calls: dict[str, dict[str, Any]], package: Path) -> None:
    call = calls["create_run_from_pipeline_package"]
    arguments = {name: value for name, value in call.items() if name != "pipeline_package_sha256"}
    run = _client(submission).create_run_from_pipeline_package(str(package), **arguments)
    call["run_id"] = run.run_id
    logger.info("run %s started", run.run_id)


def _schedule(submission: Submission, calls: dict[str, dict[str, Any]], package: Path) -> None:
    client = _client(submission)
    experiment = client.create_experiment(submission.experiment, namespace=submission.namespace or None)
    upload = calls["upload_pipeline_version"]
    pipeline_id, version_id = _upload(client, upload, package)
    before = _recurring_runs(client, experiment.experiment_id, submission)
    recurring = client.create_recurring_run(
        experiment_id=experiment.experiment_id,
        pipeline_id=pipeline_id,
        version_id=version_id,
        **calls["create_recurring_run"],
    )
    for old in before:
        client.delete_recurring_run(old)
        logger.info("replaced recurring run %s", old)
    calls["create_recurring_run"]["recurring_run_id"] = recurring.recurring_run_id


def _upload(client: Any, upload: dict[str, Any], package: Path) -> tuple[str, str]:
    """Ids of pipeline and version; a package that is already there is not uploaded again."""
    name, version_name = upload["pipeline_name"], upload["pipeline_version_name"]
    pipeline_id = client.get_pipeline_id(name) or client.upload_pipeline(str(package), pipeline_name=name).pipeline_id
    for version in client.list_pipeline_versions(pipeline_id, page_size=100).pipeline_versions or ():
        if version.display_name == version_name:
            return pipeline_id, version.pipeline_version_id
    version = client.upload_pipeline_version(str(package), version_name, pipeline_id=pipeline_id)
    return pipeline_id, version.pipeline_version_id


def _recurring_runs(client: Any, experiment_id: str, submission: Submission) -> list[str]:
    listed = client.list_recurring_runs(
        experiment_id=experiment_id, namespace=submission.namespace or None, page_size=100
    )
    return [run.recurring_run_id for run in listed.recurring_runs or () if run.display_name == submission.name]


def _client(submission: Submission) -> Any:
    import kfp

    return kfp.Client(host=submission.host or None, namespace=submission.namespace or "kubeflow")
