"""The pipeline as Kubeflow's intermediate representation: pipeline spec, then Kubernetes settings, as YAML."""

from __future__ import annotations

import logging
from pathlib import Path

from components.base import IMAGE
from features.errors import ConfigError
from features.files import atomic_file
from pipelines.platform import ClusterPlatform
from pipelines.training import training_pipeline

logger = logging.getLogger(__name__)


def compile_training(out: Path, *, platform: ClusterPlatform | None = None, with_sweep: bool = False) -> None:
    """Write the training pipeline for a cluster to `out` (a .yaml); equal settings give equal bytes.

    Raises ConfigError when `out` is not called .yaml or .yml.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out {out}: a pipeline is written as .yaml")

    from kfp import compiler

    place = platform or ClusterPlatform()
    pipeline = training_pipeline(with_sweep=with_sweep, on=place)
    with atomic_file(out) as temporary:
        named = temporary.with_suffix(out.suffix)
        compiler.Compiler().compile(pipeline, str(named))
        named.replace(temporary)
    logger.info("compiled %s: every step in image %s", out, place.image or IMAGE)
