"""Evaluate: journeys + features + credits -> evaluation.json, decision.json and report.html.

The judge's chain, in order: load the judge's users; buckets; measurements of uplift per bucket and cluster (FD and OBS
are keys, randomised exposures an audit, raw and IPW are shown); areas of every ranking; identification, falsification
and sensitivity; the gate.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from features.files import read_json, sha256_file, write_json
from validation.evaluation_rows import (
    area,
    area_metrics,
    area_rows,
    bucket_rows,
    counts,
    curve_rows,
    gate_section,
    known_truth_metrics,
    levels,
    plain,
    truth_judge,
    without_blocks,
)
from validation.falsification import Finding, calibration_curve, randomised_audit, run_battery
from validation.gate import Blocking, Decision, Key, decide, rival_name
from validation.identification import Statement, identify
from validation.judge_arrays import ranking_scores
from validation.judge_data import JudgeSplit, load_judge
from validation.measured import JudgeConfig, Measured, gate_keys, key_of, measure, rival_of
from validation.observational import credit_tables, upload_metrics
from validation.sensitivity import Strength, sensitivity
from validation.shards import Floats
from validation.truth import load_truth

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What was measured, and everything that the gate decided by."""

    measured: Measured
    split: JudgeSplit
    scores: dict[str, Floats]
    """Ranking -> score_BK."""
    champion: str | None
    keys: list[Key]
    statements: list[Statement]
    findings: list[Finding]
    blocking: list[Blocking]
    decision: Decision

    @property
    def violations(self) -> list[Finding]:
        """Assumptions that the logs contradict; too few journeys are none."""
        return [
            item
            for item in self.findings
            if item.verdict == "fail" and (item.blocks is None or item.blocks.journeys_needed is None)
        ]


def evaluate(
    *,
    journeys_dir: Path,
    data_dir: Path,
    credits_dir: Path,
    model_dir: Path,
    logs_root: Path,
    config: JudgeConfig,
    out: Path,
    data_quality: Sequence[dict[str, Any]] = (),
    champion_name: str = "champion",
) -> Decision:
    """Judge the candidate's credits and write evaluation.json, decision.json and report.html under `out`.

    `champion_name` is how reasons and report call the champion, where credits/ has one. Raises ConfigError without
    judge journeys, AlmMtaError where credits and journeys do not belong together.
    """
    from validation.report import render_report

    started = time.monotonic()
    split = load_judge(
        journeys_dir=journeys_dir,
        data_dir=data_dir,
        credits_dir=credits_dir,
        min_treated=config.falsification.min_treated,
        max_clusters=config.max_clusters,
        max_journeys=config.max_journeys,
    )
    schema = read_json(data_dir / "schema.json")
    judgement = _judge(split, schema, config, champion_name)
    coverage, clusters, creators = credit_tables(credits_dir, data_dir)
    evaluation = _evaluation(judgement, load_truth(logs_root, split.keys), asdict(coverage), config) | {
        "clusters": clusters,
        "creators": creators,
        "training": _optional(model_dir / "history.json"),
        "data_quality": list(data_quality),
        "counts": counts(split.arrays, read_json(journeys_dir / "manifest.json")),
        "model": {
            "sha256": sha256_file(model_dir / "manifest.json"),
            "feature_schema_hash": schema["feature_schema_hash"],
        },
    }
    decision = replace(judgement.decision, metrics=evaluation["metrics"])
    violations = [without_blocks(item) for item in judgement.violations]
    record = plain(evaluation)
    write_json(out / "evaluation.json", record)
    render_report(record, out / "report.html")
    write_json(out / "decision.json", {**asdict(decision), "violations": violations, "thresholds": asdict(config)})
    logger.info("judged: %s, %s (%.1f s)", decision.verdict, decision.reasons[0], time.monotonic() - started)
    return decision


def _judge(split: JudgeSplit, schema: dict[str, Any], config: JudgeConfig, champion_name: str) -> Judgement:
    measured = measure(split.arrays, config)
    logger.info("uplift measured in %d buckets", measured.buckets.count)
    scores = ranking_scores(measured.data, measured.buckets)
    champion = champion_name if "champion" in scores else None
    keys = gate_keys(measured, scores)
    findings = [*_falsify(measured, split, config), *_audit(measured, scores, keys, rival_name(champion))]
    statements = identify(
        schema=schema, calibration=split.summary.get("calibration", {}), data=measured.data, buckets=measured.buckets,
        obs=measured.obs.uplift, fd=measured.fd,
    )  # fmt: skip
    blocks = [item.blocks for item in statements] + [item.blocks for item in findings]
    blocking = [block for block in [*blocks, _unscored_champion(split.summary, champion_name)] if block is not None]
    journeys = len(measured.data.y_J)
    return Judgement(
        measured=measured,
        split=split,
        scores=scores,
        champion=champion,
        keys=keys,
        statements=statements,
        findings=findings,
        blocking=blocking,
        decision=decide(keys, blocking=blocking, champion=champion, journeys=journeys, config=config.gate),
    )


def _evaluation(
    j: Judgement, truth_T: Floats | None, coverage: dict[str, float], config: JudgeConfig
) -> dict[str, Any]:
    """evaluation.json, but for what the caller reads from files."""
    measured, p_obs_J, y_J = j.measured, j.split.diagnostics.p_obs_J, j.measured.data.y_J
    judges = measured.judges + truth_judge(measured, truth_T)
    level = {uplift.judge: levels(uplift, measured) for uplift in judges}
    areas = {(u.judge, name): area(u, score_BK, measured) for u in judges for name, score_BK in j.scores.items()}
    metrics = {
        **({} if p_obs_J is None else upload_metrics(p_obs_J, y_J)),
        **coverage,
        **area_metrics(areas, j.keys),
        **known_truth_metrics(measured.data, truth_T),
    }
    return {
        "verdict": j.decision.verdict,
        "reasons": list(j.decision.reasons),
        "identification": [without_blocks(item) for item in j.statements],
        "buckets": bucket_rows(measured),
        "rankings": list(j.scores),
        "curves": curve_rows(judges, j.scores, measured),
        "auuc": [row for (judge, name), value in areas.items() for row in area_rows(judge, name, value, level[judge])],
        "gate": gate_section(j.keys, j.blocking, config.gate, j.decision, j.champion, len(y_J)),
        "falsification": [without_blocks(item) for item in j.findings],
        "sensitivity": [asdict(item) for item in _sensitivity(j)],
        "calibration": [] if p_obs_J is None else calibration_curve(p_obs_J, y_J),
        "metrics": {name: float(value) for name, value in sorted(metrics.items()) if math.isfinite(value)},
    }


def _falsify(measured: Measured, split: JudgeSplit, config: JudgeConfig) -> list[Finding]:
    """The battery on what was measured and on the candidate's own view of it."""
    return run_battery(
        data=measured.data, basis_JF=measured.basis_JF, buckets=measured.buckets, exposure=measured.exposure,
        replicates=measured.replicates, obs=measured.obs, fd=measured.fd, diagnostics=split.diagnostics,
        config=config.falsification, snapshots=split.summary.get("snapshots"), seed=config.seed,
    )  # fmt: skip


def _audit(measured: Measured, scores: dict[str, Floats], keys: list[Key], rival: str) -> list[Finding]:
    """What randomised exposures say of the candidate, where there are any."""
    return [
        randomised_audit(key_of(uplift, scores, measured), keys, rival)
        for uplift in measured.judges
        if uplift.judge == "randomised"
    ]


def _sensitivity(j: Judgement) -> list[Strength]:
    m = j.measured
    return sensitivity(
        data=m.data, buckets=m.buckets, exposure=m.exposure, replicates=m.replicates, judges=m.judges,
        own_BK=j.scores["candidate"], rival_BK=rival_of(j.scores), rival=rival_name(j.champion),
    )  # fmt: skip


def _unscored_champion(summary: dict[str, Any], champion_name: str) -> Blocking | None:
    """A champion that cannot score these journeys is never replaced unseen."""
    obstacle = summary.get("champion_incomparable")
    if not obstacle:
        return None
    reason = (
        f"{champion_name} {obstacle} and cannot be compared on these logs; bring back what it was fitted on, "
        "or start a new line of champions with another registry.model_name"
    )
    return Blocking(reason=reason, verdict="inconclusive")


def _optional(path: Path) -> Any:
    return read_json(path) if path.exists() else {}
