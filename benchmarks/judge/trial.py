"""One data set: what every protocol says of every pair of rankings, and what the battery finds.

    protocol    area of a ranking = Σ_b π_b A_b by the protocol's uplift u; Δ(i, j) = area_i − area_j, its standard
                error from the bootstrap of the same users
    gate        the product's rule on the keys OBS and FD (validation/gate.py), i the challenger, j the champion;
                once by the keys alone, once with what the falsification battery blocks

raw = the published protocol, IPW, DML = OBS without its negative control (α = 0), OBS, FD, all of validation/.
The battery reads a candidate's mediator; here the judges' own index and its cluster means stand in for it.

Shapes: M rankings, R replicates, B buckets, K clusters, T touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.judge.dataset import JudgedSet
from benchmarks.judge.zoo import perturbed
from validation.auuc import oracle_area
from validation.falsification import Finding, run_battery
from validation.gate import Blocking, decide
from validation.judge_data import Diagnostics
from validation.keys import Judge, seat
from validation.measured import KEYS, JudgeConfig, Measured, measure
from validation.shards import Floats, bin_sums
from validation.uplift import Uplift
from validation.uplift_obs import unadjusted


def run_trial(judged: JudgedSet, seed: int, config: JudgeConfig) -> dict[str, Any]:
    """The record of one data set, fit for JSON; matrices are [M][M], challenger by champion, true areas [M][B]."""
    data = judged.arrays
    measured = measure(data, config)
    truth_BK = _cell_means(judged.truth_T, measured)
    scores = perturbed(truth_BK, measured.exposure.w_BK, np.random.default_rng(seed))
    scores |= {name: _cell_means(credit_T, measured) for name, credit_T in judged.credit_T.items()}
    findings = _battery(measured, config)
    judges = {uplift.judge: _seat(uplift, measured) for uplift in [*measured.judges, _dml(measured)]}
    exact = _exact(truth_BK, measured)
    area_MB = np.stack([exact.areas(score_BK)[0] for score_BK in scores.values()])
    return {
        "journeys": len(data.y_J),
        "uploads": int(data.y_J.sum()),
        "clusters": len(data.cluster_K),
        "buckets": measured.buckets.count,
        "rankings": list(scores),
        "true_area": area_MB.tolist(),
        "true_oracle": float(oracle_area(truth_BK, measured.exposure.w_BK) @ measured.exposure.pi_B),
        "bucket_share": measured.exposure.pi_B.tolist(),
        "cell_correlation": {name: _correlation(judge.uplift, truth_BK, measured) for name, judge in judges.items()},
        "protocols": {name: _differences(judge, list(scores.values())) for name, judge in judges.items()},
        "gate": _verdicts(judges, list(scores.values()), findings, len(data.y_J), config),
        "findings": [
            {
                "test": item.test, "statistic": item.statistic, "threshold": item.threshold, "verdict": item.verdict,
                "blocks": item.blocks is not None,
            }
            for item in findings
        ],
    }  # fmt: skip


def _cell_means(value_T: Floats, measured: Measured) -> Floats:
    """Mean per bucket and cluster; 0 where there is no touch. [B, K]."""
    data, buckets = measured.data, measured.buckets
    count_BK = data.per_cell(np.ones_like(value_T), buckets.bucket_J, buckets.count)
    return np.asarray(data.per_cell(value_T, buckets.bucket_J, buckets.count) / np.maximum(count_BK, 1.0))


def _seat(uplift: Uplift, measured: Measured) -> Judge:
    return seat(uplift, measured.exposure, measured.replicates, seed=measured.seed)


def _dml(measured: Measured) -> Uplift:
    plain = unadjusted(
        measured.data, measured.buckets, measured.exposure, measured.replicates, measured.basis_JF, "no control"
    )
    return replace(plain.uplift, judge="DML")


def _exact(truth_BK: Floats, measured: Measured) -> Judge:
    """The truth as a judge of one replicate."""
    truth, nan = Uplift(judge="truth", u_RBK=truth_BK[None], usable=False, note=""), float("nan")
    return Judge(uplift=truth, exposure=measured.exposure, replicates=measured.replicates, oracle=nan, luck=nan)


def _correlation(uplift: Uplift, truth_BK: Floats, measured: Measured) -> float | None:
    """Pearson's over cells, within buckets, weighted by exposure; None where one of the two does not vary."""
    weight_BK = measured.exposure.w_BK * measured.exposure.pi_B[:, None]

    def centred(u_BK: Floats) -> Floats:
        return np.asarray(u_BK - (measured.exposure.w_BK * u_BK).sum(1, keepdims=True))

    a_BK, b_BK = centred(uplift.sample), centred(truth_BK)
    scale = np.sqrt((weight_BK * a_BK**2).sum() * (weight_BK * b_BK**2).sum())
    return float((weight_BK * a_BK * b_BK).sum() / scale) if scale > 0 else None


def _differences(judge: Judge, score_MBK: list[Floats]) -> dict[str, list[list[float]]]:
    """Δ and its standard error of all pairs."""
    area_MR = np.stack([judge.areas(score_BK).sum(1) for score_BK in score_MBK])
    delta_MMR = area_MR[:, None] - area_MR[None]
    se_MM = delta_MMR[..., judge.replicates.boot].std(axis=-1, ddof=1)
    return {"delta": delta_MMR[..., 0].tolist(), "se": se_MM.tolist()}


def _verdicts(
    judges: dict[str, Judge], score_MBK: list[Floats], findings: list[Finding], journeys: int, config: JudgeConfig
) -> dict[str, list[list[str]]]:
    """The gate's verdict on every challenger and champion, by the keys alone and after the battery."""
    seated = [judges[name] for name in KEYS if name in judges]
    area_JM = [[judge.areas(score_BK) for score_BK in score_MBK] for judge in seated]
    blocking = [item.blocks for item in findings if item.blocks is not None]

    def verdict(challenger: int, champion: int, blocks: Sequence[Blocking]) -> str:
        keys = [judge.key(area_M[challenger], area_M[champion]) for judge, area_M in zip(seated, area_JM, strict=True)]
        return decide(keys, blocking=blocks, champion="champion", journeys=journeys, config=config.gate).verdict

    ranking_M = range(len(score_MBK))
    return {
        name: [[verdict(challenger, champion, blocks) for champion in ranking_M] for challenger in ranking_M]
        for name, blocks in (("keys", []), ("battery", blocking))
    }


def _battery(measured: Measured, config: JudgeConfig) -> list[Finding]:
    return run_battery(
        data=measured.data, basis_JF=measured.basis_JF, buckets=measured.buckets, exposure=measured.exposure,
        replicates=measured.replicates, obs=measured.obs, fd=measured.fd,
        diagnostics=stand_in(measured), config=config.falsification,
    )  # fmt: skip


def stand_in(measured: Measured) -> Diagnostics:
    """The judges' index as u, its mean per cluster as m."""
    if measured.fd is None:
        return Diagnostics()
    data, u_T = measured.data, measured.fd.index_T
    count_K = np.maximum(np.bincount(data.column_T, minlength=len(data.cluster_K)), 1)
    m_T = (np.bincount(data.column_T, u_T, len(data.cluster_K)) / count_K)[data.column_T]
    return Diagnostics(u_T=u_T, m_T=m_T, residual_J=bin_sums(data.journey_T, data.decay_T * (u_T - m_T), len(data.y_J)))
