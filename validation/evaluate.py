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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import ConfigError
from features.files import read_json, sha256_file, write_json
from validation.auuc import Area, area_of, area_per_bucket, gain_curve, normalised, oracle_area, positions
from validation.buckets import Buckets, make_buckets, profile_basis
from validation.falsification import FalsificationConfig, Finding, calibration_curve, randomised_audit, run_battery
from validation.gate import Blocking, Decision, GateConfig, Key, decide, to_record
from validation.identification import Statement, identify
from validation.judge_arrays import SHARDS, Exposure, JudgeArrays, exposure_of, ranking_scores
from validation.judge_data import JudgeSplit, load_judge
from validation.keys import seat
from validation.observational import credit_tables, upload_metrics
from validation.sensitivity import sensitivity
from validation.shards import Floats, Replicates, draw_replicates
from validation.truth import load_truth, top_efficiency, truth_metrics
from validation.uplift import Uplift
from validation.uplift_fd import uplift_fd
from validation.uplift_obs import Obs, uplift_obs
from validation.uplift_randomised import uplift_randomised
from validation.uplift_raw import uplift_ipw, uplift_raw

logger = logging.getLogger(__name__)

KEYS = ("OBS", "FD")


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """How credits are judged."""

    gate: GateConfig = field(default_factory=GateConfig)
    """Thresholds of the decision."""
    falsification: FalsificationConfig = field(default_factory=FalsificationConfig)
    """Thresholds of the tests that may block it."""
    buckets: int = 5
    """Most propensity buckets; fewer where cells would be too small."""
    max_clusters: int = 64
    """Most clusters judged on their own; the rarest others are merged."""
    replicates: int = 200
    """Bootstrap replicates behind every interval."""
    half_pairs: int = 10
    """Random pairs of halves that cross-fit the oracle's area."""
    seed: int = 0
    """Seed of the bootstrap."""

    def __post_init__(self) -> None:
        least = {"buckets": 1, "max_clusters": 2, "replicates": 20, "half_pairs": 1, "seed": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ConfigError(f"judge.{name} = {getattr(self, name)} must be at least {smallest}")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the judges say of the judge's users, before any ranking."""

    data: JudgeArrays
    basis_JF: Floats
    buckets: Buckets
    exposure: Exposure
    replicates: Replicates
    obs: Obs
    fd: Uplift | None
    shown: tuple[Uplift, ...]
    seed: int

    @property
    def judges(self) -> list[Uplift]:
        """Every measurement, keys first."""
        return [*([self.fd] if self.fd else []), self.obs.uplift, *self.shown]


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
    )
    schema = read_json(data_dir / "schema.json")
    measured = measure(split.arrays, config)
    logger.info("uplift measured in %d buckets (%.1f s)", measured.buckets.count, time.monotonic() - started)
    scores = ranking_scores(measured.data, measured.buckets)
    champion = champion_name if "champion" in scores else None
    keys = gate_keys(measured, scores)
    findings = [
        *_falsify(measured, split, config),
        *_audit(measured, scores, keys, champion or "last touch"),
    ]
    statements = identify(
        schema=schema, data=measured.data, buckets=measured.buckets, obs=measured.obs.uplift, fd=measured.fd
    )
    blocked = [*(item.blocks for item in statements), *(item.blocks for item in findings)]
    blocking = [finding for finding in [*blocked, _unscored_champion(split.summary, champion_name)] if finding]
    journeys = len(measured.data.y_J)
    decision = decide(keys, blocking=blocking, champion=champion, journeys=journeys, config=config.gate)
    strengths = sensitivity(
        data=measured.data, buckets=measured.buckets, exposure=measured.exposure, replicates=measured.replicates,
        basis_JF=measured.basis_JF, judges=measured.judges, own_BK=scores["candidate"], rival_BK=_rival(scores),
        rival=champion or "last touch",
    )  # fmt: skip

    truth_T = load_truth(logs_root, split.keys)
    judges = measured.judges + _truth_judge(measured, truth_T)
    areas = {(u.judge, name): _area(u, score_BK, measured) for u in judges for name, score_BK in scores.items()}
    coverage, clusters, creators = credit_tables(credits_dir, data_dir)
    p_obs_J = split.diagnostics.p_obs_J
    metrics = {
        **({} if p_obs_J is None else upload_metrics(p_obs_J, measured.data.y_J)),
        **asdict(coverage),
        **_area_metrics(areas, keys),
        **_truth_metrics(measured.data, truth_T),
    }
    metrics = {name: float(value) for name, value in sorted(metrics.items()) if math.isfinite(value)}
    decision = Decision(
        verdict=decision.verdict, reasons=decision.reasons, metrics=metrics, journeys_needed=decision.journeys_needed
    )  # fmt: skip
    evaluation = {
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "identification": [_without_blocks(item) for item in statements],
        "buckets": _bucket_rows(measured),
        "rankings": list(scores),
        "curves": _curve_rows(judges, scores, measured),
        "auuc": [row for (judge, name), area in areas.items() for row in _area_rows(judge, name, area)],
        "gate": _gate_section(keys, blocking, config.gate, decision, champion, journeys),
        "falsification": [_without_blocks(item) for item in findings],
        "sensitivity": [asdict(item) for item in strengths],
        "calibration": [] if p_obs_J is None else calibration_curve(p_obs_J, measured.data.y_J),
        "metrics": metrics,
        "clusters": clusters,
        "creators": creators,
        "training": _optional(model_dir / "history.json"),
        "data_quality": list(data_quality),
        "counts": _counts(measured.data, read_json(journeys_dir / "manifest.json")),
        "model": {
            "sha256": sha256_file(model_dir / "manifest.json"),
            "feature_schema_hash": schema["feature_schema_hash"],
        },
    }
    evaluation = _plain(evaluation)
    write_json(out / "evaluation.json", evaluation)
    render_report(evaluation, out / "report.html")
    violations = [_without_blocks(item) for item in findings if item.verdict == "fail"]
    write_json(out / "decision.json", {**asdict(decision), "violations": violations, "thresholds": asdict(config)})
    logger.info("judged: %s, %s (%.1f s)", decision.verdict, decision.reasons[0], time.monotonic() - started)
    return decision


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
        randomised_audit(_key(uplift, scores, measured), keys, rival)
        for uplift in measured.judges
        if uplift.judge == "randomised"
    ]


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


def measure(data: JudgeArrays, config: JudgeConfig) -> Measured:
    """Buckets and the measurements of uplift; pure, so that worlds can be judged without files."""
    basis_JF = profile_basis(data.x_JP)
    buckets = make_buckets(
        basis_JF=basis_JF, y_J=data.y_J, shard_J=data.shard_J, dose_JK=data.dose_JK, most=config.buckets,
        min_treated=config.falsification.min_treated,
    )  # fmt: skip
    exposure = exposure_of(data, buckets)
    replicates = draw_replicates(SHARDS, config.replicates, half_pairs=config.half_pairs, seed=config.seed)
    audit = uplift_randomised(data, buckets, exposure, replicates, basis_JF)
    return Measured(
        data=data,
        basis_JF=basis_JF,
        buckets=buckets,
        exposure=exposure,
        replicates=replicates,
        obs=uplift_obs(data, buckets, exposure, replicates, basis_JF),
        fd=uplift_fd(data, buckets, exposure, replicates, basis_JF),
        shown=(
            *([audit] if audit else []),
            uplift_raw(data, buckets, replicates),
            uplift_ipw(data, buckets, replicates, basis_JF),
        ),
        seed=config.seed,
    )


def gate_keys(measured: Measured, scores: dict[str, Floats]) -> list[Key]:
    """Challenger ('candidate') against champion, or last touch where there is none, under OBS and FD."""
    return [_key(uplift, scores, measured) for uplift in measured.judges if uplift.judge in KEYS]


def _key(uplift: Uplift, scores: dict[str, Floats], measured: Measured) -> Key:
    judge = seat(uplift, measured.exposure, measured.replicates, seed=measured.seed)
    return judge.key(judge.areas(scores["candidate"]), judge.areas(_rival(scores)))


def _rival(scores: dict[str, Floats]) -> Floats:
    """The champion's ranking; last touch stands in where there is none."""
    return scores["champion"] if "champion" in scores else scores["last_touch"]


def _truth_judge(measured: Measured, truth_T: Floats | None) -> list[Uplift]:
    """The world's own mean effect per cell as a judge without noise."""
    if truth_T is None or not np.isfinite(truth_T).any():
        return []
    data, buckets = measured.data, measured.buckets
    known_T = np.isfinite(truth_T).astype(np.float64)
    sum_BK = data.per_cell(np.nan_to_num(truth_T), buckets.bucket_J, buckets.count)
    count_BK = data.per_cell(known_T, buckets.bucket_J, buckets.count)
    return [Uplift(judge="truth", u_RBK=(sum_BK / np.maximum(count_BK, 1.0))[None], usable=False, note="")]


def _area(uplift: Uplift, score_BK: Floats, measured: Measured) -> Area:
    exposure = measured.exposure
    if len(uplift.u_RBK) > 1:
        return area_of(uplift, score_BK, exposure, measured.replicates)
    area_B = area_per_bucket(uplift.u_RBK, positions(score_BK, exposure.w_BK), exposure.w_BK)[0]
    oracle_B = oracle_area(uplift.sample, exposure.w_BK)
    zero_B = np.zeros_like(area_B)
    return Area(
        area=float(area_B @ exposure.pi_B), se=0.0, area_B=area_B, se_B=zero_B,
        oracle=float(oracle_B @ exposure.pi_B), oracle_B=oracle_B,
    )  # fmt: skip


def _area_rows(judge: str, ranking: str, area: Area) -> list[dict[str, Any]]:
    buckets: list[int | str] = ["all", *range(len(area.area_B))]
    values = [(area.area, area.se, area.oracle), *zip(area.area_B, area.se_B, area.oracle_B, strict=True)]
    return [
        {
            "judge": judge, "ranking": ranking, "bucket": bucket, "area": value,
            "low": value - 1.96 * se, "high": value + 1.96 * se, "normalised": normalised(value, oracle),
        }
        for bucket, (value, se, oracle) in zip(buckets, values, strict=True)
    ]  # fmt: skip


def _curve_rows(judges: list[Uplift], scores: dict[str, Floats], measured: Measured) -> list[dict[str, Any]]:
    return [
        {
            "judge": uplift.judge, "ranking": name, "bucket": b,
            **asdict(
                gain_curve(
                    uplift.u_RBK[:, b], score_BK[b], measured.exposure.w_BK[b],
                    measured.replicates.boot if len(uplift.u_RBK) > 1 else None,
                )
            ),
        }
        for uplift in judges
        for name, score_BK in scores.items()
        for b in range(measured.buckets.count)
    ]  # fmt: skip


def _area_metrics(areas: dict[tuple[str, str], Area], keys: list[Key]) -> dict[str, float]:
    shares = {f"auuc_{name}_{judge}": area.normalised for (judge, name), area in areas.items()}
    deltas = {f"gate_delta_{key.judge}": key.delta for key in keys}
    return {name: value for name, value in shares.items() if value is not None} | deltas


def _truth_metrics(data: JudgeArrays, truth_T: Floats | None) -> dict[str, float]:
    """candidate's figures bare, the other rankings' with their name behind."""
    metrics: dict[str, float] = {}
    for name, delta_T in data.delta_T.items():
        found = None if truth_T is None else truth_metrics(delta_T, truth_T, data.column_T)
        if found is None:
            continue
        suffix = "" if name == "candidate" else f"_{name}"
        metrics |= {
            f"truth_{field_name}{suffix}": value
            for field_name, value in asdict(found).items()
            if field_name != "top1_efficiency"
        }
        metrics[f"top1_efficiency{suffix}"] = found.top1_efficiency
    if metrics and truth_T is not None:
        known_T = truth_T[np.isfinite(truth_T)]
        metrics["top1_efficiency_oracle"] = top_efficiency(known_T, known_T)
    return metrics


def _bucket_rows(measured: Measured) -> list[dict[str, Any]]:
    buckets, y_J = measured.buckets, measured.data.y_J
    rows = []
    for b in range(buckets.count):
        members = buckets.bucket_J == b
        rows.append(
            {
                "bucket": b,
                "journeys": int(members.sum()),
                "uploads": int(y_J[members].sum()),
                "propensity_low": float(buckets.propensity_J[members].min()),
                "propensity_high": float(buckets.propensity_J[members].max()),
                "median_treated": int(np.median(buckets.treated_BK[b])),
            }
        )
    return rows


def _gate_section(
    keys: list[Key], blocking: list[Blocking], config: GateConfig, decision: Decision, champion: str | None,
    journeys: int,
) -> dict[str, Any]:  # fmt: skip
    lows = [key.area - config.confidence_z * key.area_se for key in keys if key.usable]
    return {
        **to_record(keys, blocking, config),
        "champion": champion or "last_touch",
        "journeys": journeys,
        "area_low": max(lows, default=None),
        "journeys_needed": decision.journeys_needed,
    }


def _counts(data: JudgeArrays, manifest: dict[str, Any]) -> dict[str, Any]:
    names = ("journeys", "labels", "touches", "users", "censored", "splits", "judge_dropped_no_post_window")
    logged = {name: manifest[name] for name in names if name in manifest}
    return logged | {
        "judge_journeys": len(data.y_J),
        "judge_uploads": int(data.y_J.sum()),
        "judge_touches": len(data.journey_T),
        "judge_clusters": len(data.cluster_K),
    }


def _without_blocks(item: Statement | Finding) -> dict[str, Any]:
    return {name: value for name, value in asdict(item).items() if name != "blocks"}


def _optional(path: Path) -> Any:
    return read_json(path) if path.exists() else {}


def _plain(value: Any) -> Any:
    """numpy -> Python for JSON; what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
