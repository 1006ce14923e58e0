"""evaluation.json's sections from what was measured: rows of areas, curves, buckets, and flat metrics."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from validation.auuc import (
    Area,
    area_of,
    area_per_bucket,
    gain_curve,
    level_normalised,
    normalised,
    oracle_area,
    positions,
)
from validation.falsification import Finding
from validation.gate import Blocking, Decision, GateConfig, Key, to_record
from validation.identification import Statement
from validation.judge_arrays import JudgeArrays
from validation.measured import Measured
from validation.shards import Floats
from validation.truth import top_efficiency, truth_metrics
from validation.uplift import Uplift


def truth_judge(measured: Measured, truth_T: Floats | None) -> list[Uplift]:
    """The world's own mean effect per cell as a judge without noise."""
    if truth_T is None or not np.isfinite(truth_T).any():
        return []
    data, buckets = measured.data, measured.buckets
    known_T = np.isfinite(truth_T).astype(np.float64)
    sum_BK = data.per_cell(np.nan_to_num(truth_T), buckets.bucket_J, buckets.count)
    count_BK = data.per_cell(known_T, buckets.bucket_J, buckets.count)
    return [Uplift(judge="truth", u_RBK=(sum_BK / np.maximum(count_BK, 1.0))[None], usable=False, note="")]


def area(uplift: Uplift, score_BK: Floats, measured: Measured) -> Area:
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


def levels(uplift: Uplift, measured: Measured) -> list[float]:
    """Mean uplift, of all cells and of each bucket's."""
    level_B = (measured.exposure.w_BK * uplift.sample).sum(axis=1)
    return [float(level_B @ measured.exposure.pi_B), *level_B.tolist()]


def area_rows(judge: str, ranking: str, area: Area, levels: list[float]) -> list[dict[str, Any]]:
    buckets: list[int | str] = ["all", *range(len(area.area_B))]
    values = [(area.area, area.se, area.oracle), *zip(area.area_B, area.se_B, area.oracle_B, strict=True)]
    return [
        {
            "judge": judge, "ranking": ranking, "bucket": bucket, "area": value,
            "low": value - 1.96 * se, "high": value + 1.96 * se, "normalised": normalised(value, oracle),
            "normalised_by_level": level_normalised(value, level),
        }
        for bucket, (value, se, oracle), level in zip(buckets, values, levels, strict=True)
    ]  # fmt: skip


def curve_rows(judges: list[Uplift], scores: dict[str, Floats], measured: Measured) -> list[dict[str, Any]]:
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


def area_metrics(areas: dict[tuple[str, str], Area], keys: list[Key]) -> dict[str, float]:
    shares = {f"auuc_{name}_{judge}": area.normalised for (judge, name), area in areas.items()}
    deltas = {f"gate_delta_{key.judge}": key.delta for key in keys}
    return {name: value for name, value in shares.items() if value is not None} | deltas


def known_truth_metrics(data: JudgeArrays, truth_T: Floats | None) -> dict[str, float]:
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


def bucket_rows(measured: Measured) -> list[dict[str, Any]]:
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


def gate_section(
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


def counts(data: JudgeArrays, manifest: dict[str, Any]) -> dict[str, Any]:
    names = ("journeys", "labels", "touches", "users", "censored", "splits", "judge_dropped_no_post_window")
    logged = {name: manifest[name] for name in names if name in manifest}
    return logged | {
        "judge_journeys": len(data.y_J),
        "judge_uploads": int(data.y_J.sum()),
        "judge_touches": len(data.journey_T),
        "judge_clusters": len(data.cluster_K),
    }


def without_blocks(item: Statement | Finding) -> dict[str, Any]:
    return {name: value for name, value in asdict(item).items() if name != "blocks"}


def plain(value: Any) -> Any:
    """numpy -> Python for JSON; what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
