"""What steps show in the Kubeflow UI, and the few small acts of theirs that no domain package owns."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.files import atomic_dir, read_json, sha256_file, write_json

ROC_POINTS = 50


def log_metrics(artifact: Any, metrics: Mapping[str, float]) -> None:
    """Put finite `metrics` on a KFP Metrics artifact, as plain floats.

    The artifact's file is written too: KFP's local cache takes an output without a file as lost.
    """
    finite = {name: float(value) for name, value in sorted(metrics.items()) if math.isfinite(value)}
    for name, value in finite.items():
        artifact.log_metric(name, value)
    write_text(artifact, json.dumps(finite, indent=2) + "\n")


def log_roc(artifact: Any, journeys: Path, credits: Path) -> None:
    """Put the judge split's ROC curve of p_obs on a KFP ClassificationMetrics artifact, at most 50 points.

    A split with one class only leaves the curve out.
    """
    import numpy as np
    import pyarrow.parquet as pq

    from features.journey_files import read_parts

    label = read_parts(journeys, "journeys", ["journey_id", "label"]).to_pandas()
    scored = pq.read_table(credits / "diagnostics" / "journeys.parquet", columns=["journey_id", "split", "p_obs"])
    judged = scored.to_pandas().query("split == 'judge'").merge(label, on="journey_id")
    positive, score = judged["label"].to_numpy() == 1, judged["p_obs"].to_numpy(dtype=float)
    if 0 < positive.sum() < len(positive):
        thresholds = np.unique(np.quantile(score, np.linspace(0, 1, ROC_POINTS)))[::-1]
        tpr = [float((score[positive] >= threshold).mean()) for threshold in thresholds]
        fpr = [float((score[~positive] >= threshold).mean()) for threshold in thresholds]
        artifact.log_roc_curve(fpr, tpr, [float(threshold) for threshold in thresholds])
    write_text(artifact, json.dumps(artifact.metadata) + "\n")


def quality_summary(suites: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of data-quality suites: one line a suite, one a warning."""
    lines = ["| suite | outcome |", "|---|---|"]
    lines += [f"| {suite['suite']} | {'passed' if suite['success'] else 'warnings'} |" for suite in suites]
    lines += [""] + [f"- {suite['suite']}: {warning}" for suite in suites for warning in suite["warnings"]]
    return "\n".join(lines) + "\n"


def mark_unchanged(evaluation: Path, champion_version: str) -> str:
    """Rewrite verdict, reasons and report of an evaluation whose candidate is the champion; returns `unchanged`."""
    from validation.report import render_report

    reason = f"the trained model is champion v{champion_version}, bit for bit: nothing to register or to push"
    for name in ("evaluation.json", "decision.json"):
        judged = read_json(evaluation / name)
        write_json(evaluation / name, judged | {"verdict": "unchanged", "reasons": [reason]})
    render_report(read_json(evaluation / "evaluation.json"), evaluation / "report.html")
    return "unchanged"


def publish_bundle(bundle: Path, store: Path) -> str:
    """Copy a model bundle into `store` under its SHA-256, once; returns that name, relative to the store."""
    name = sha256_file(bundle / "manifest.json")
    if not (store / name).exists():
        with atomic_dir(store / name) as folder:
            shutil.copytree(bundle, folder, dirs_exist_ok=True)
    return name


def push_bundle(bundle: Path, store: Path, url: str, *, name: str, version: str, timeout_s: float) -> dict[str, Any]:
    """Publish a bundle in `store` and have the allocator at `url` serve it; returns the allocator's record of it.

    The version is the id of the approval too. Raises PushRefused, AllocatorError.
    """
    from allocator import client
    from allocator.settings import token_from_environment

    sha256 = publish_bundle(bundle, store)
    return client.push(
        url,
        token=token_from_environment("push"),
        name=name,
        version=version,
        uri=sha256,
        sha256=sha256,
        feature_schema_hash=read_json(bundle / "manifest.json")["feature_schema_hash"],
        approval_id=f"{name}-v{version}",
        timeout_s=timeout_s,
    )


def write_text(artifact: Any, text: str) -> None:
    """Write a KFP artifact that is one text file."""
    path = Path(artifact.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
