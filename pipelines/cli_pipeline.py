"""`alm-mta run | compile | submit | schedule`."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from pipelines.cli_parser import add_sections, parser_for, sections_of
from pipelines.platform import ClusterPlatform

CLUSTER_REGISTRY, CLUSTER_ALLOCATOR = "http://mlflow.alm-mta:5000", "http://allocator.alm-mta:8080"
"""The services of k8s/base, for a configuration that names none."""


def run(arguments: list[str]) -> int:
    """The whole pipeline on this machine."""
    from pipelines.config import PipelineConfig

    parser = parser_for("run", "Run the whole pipeline on this machine: logs in, credits, champion and plan out.")
    parser.add_argument("--logs", type=str, required=True, help="folder of the logs, or its address: s3://, gs://")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of runs, registry, allocator, result.json")
    add_sections(parser, PipelineConfig)
    options = parser.parse_args(arguments)
    config = sections_of(parser, options, PipelineConfig)

    from rich.console import Console

    from pipelines import run as runner

    logging.getLogger("features").setLevel(logging.WARNING)  # the run narrates itself
    result = runner.run(options.logs, options.workdir, config, Console())
    if result.exit_code:
        sys.stdout.flush()
        sys.stderr.write(f"{result.verdict}: {'; '.join(result.reasons) or 'no reason given'}\n")
    return result.exit_code


def compile(arguments: list[str]) -> int:
    """The pipeline as Kubeflow's intermediate representation."""
    parser = parser_for("compile", "Write the training pipeline for a Kubeflow cluster as YAML.")
    parser.add_argument("--out", type=Path, required=True, help="file to write, .yaml")
    parser.add_argument("--sweep", type=bool, default=False, help="search settings before training")
    _add_platform(parser)
    options = parser.parse_args(arguments)

    from pipelines.compile import compile_training

    compile_training(options.out, platform=_platform(parser, options), with_sweep=options.sweep)
    return 0


def submit(arguments: list[str]) -> int:
    """One run on a Kubeflow server."""
    return _send(parser_for("submit", "Start one run on a Kubeflow server."), arguments, scheduled=False)


def schedule(arguments: list[str]) -> int:
    """A recurring run on new logs."""
    parser = parser_for("schedule", "Retrain on new logs by a cron expression; replaces the schedule of that name.")
    return _send(parser, arguments, scheduled=True)


def _send(parser: ArgumentParser, arguments: list[str], *, scheduled: bool) -> int:
    from dataclasses import replace

    from features.settings import to_yaml
    from pipelines.config import PipelineConfig
    from pipelines.submit import Submission, send

    parser.add_argument(
        "--logs", type=str, required=True, help="folder of the logs as the pods see it, or its address: s3://, gs://"
    )
    parser.add_argument("--model_store", type=str, default="/data/models", help="folder that the allocator reads")
    parser.add_argument("--checkpoint_root", type=str, default="/data/checkpoints", help="kept between attempts")
    parser.add_argument("--host", type=str, default="", help="Kubeflow Pipelines API")
    parser.add_argument("--namespace", type=str, default="", help="profile of a multi-user server")
    parser.add_argument("--experiment", type=str, default="alm-mta", help="experiment that groups the runs")
    parser.add_argument("--name", type=str, default="alm-mta-training", help="name of the run or schedule")
    if scheduled:
        parser.add_argument("--cron", type=str, required=True, help="six fields, seconds first: '0 0 3 * * *'")
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent; needs no server")
    _add_platform(parser)
    add_sections(parser, PipelineConfig)
    options = parser.parse_args(arguments)
    config = sections_of(parser, options, PipelineConfig)
    registry = replace(config.registry, tracking_uri=config.registry.tracking_uri or CLUSTER_REGISTRY)
    config = replace(config, registry=registry)
    submission = Submission(
        host=options.host,
        namespace=options.namespace,
        experiment=options.experiment,
        name=options.name,
        arguments={
            "logs": options.logs,
            "config": to_yaml(config),
            "allocator_url": config.allocator.url or CLUSTER_ALLOCATOR,
            "model_store": options.model_store,
            "checkpoint_root": options.checkpoint_root,
        },
        platform=_platform(parser, options),
        with_sweep=config.sweep.trials > 0,
        cron=options.cron if scheduled else "",
    )
    sys.stdout.write(json.dumps(send(submission, dry_run=options.dry_run), indent=2) + "\n")
    return 0


def _add_platform(parser: ArgumentParser) -> None:
    parser.add_argument("--platform", type=ClusterPlatform, default=ClusterPlatform(), help="Kubernetes settings")


def _platform(parser: ArgumentParser, options: Namespace) -> ClusterPlatform:
    platform: ClusterPlatform = parser.instantiate(options).platform
    return platform
