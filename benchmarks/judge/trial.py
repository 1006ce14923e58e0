"""One data set: what every protocol says of every pair of rankings, and what the battery finds.

    protocol    area of a ranking = Σ_b π_b A_b by the protocol's uplift u; Δ(i, j) = area_i − area_j, its standard
                error from the bootstrap of the same users
    gate        the product's rule on the keys OBS and FD (validation/gate.py), i the challenger, j the champion;
                once by the keys alone, once with what the falsification battery blocks

raw = the published protocol, IPW, DML = OBS without its negative control (α = 0), OBS, FD, all of validation/.
The battery reads a candidate's own parts; candidate.py makes them.

Shapes: M rankings, R replicates, B buckets, K clusters, T touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.judge.candidate import broken, sound, stand_in
from benchmarks.judge.cases import AUDITS
from benchmarks.judge.dataset import JudgedSet
from benchmarks.judge.zoo import perturbed
from features.errors import AlmMtaError
from model.data import JourneyTable
from validation.auuc import oracle_area
from validation.falsification import Finding, randomised_audit, run_battery
from validation.gate import Blocking, decide
from validation.keys import Judge, seat
from validation.measured import KEYS, JudgeConfig, Measured, measure
from validation.shards import Floats
from validation.uplift import Uplift

AUDITED = ("truth 0.9", "truth -0.5")
"""Rankings of which the randomised audit is asked, the better one first."""


def run_trial(judged: JudgedSet, seed: int, config: JudgeConfig) -> dict[str, Any]:
    """The record of one data set, fit for JSON; matrices are [M][M], challenger by champion, true areas [M][B]."""
    data = judged.arrays
    measured = measure(data, config)
    truth_BK, scores = _rankings(judged, measured, seed)
    findings = _battery(measured, judged, seed, config)
    judges = {uplift.judge: _seat(uplift, measured) for uplift in [*measured.judges, measured.obs.plain]}
    exact = _exact(truth_BK, measured)
    area_MB = np.stack([exact.areas(score_BK)[0] for score_BK in scores.values()])
    return {
        **_counts(measured),
        "rankings": list(scores),
        "true_area": area_MB.tolist(),
        "true_oracle": float(oracle_area(truth_BK, measured.exposure.w_BK) @ measured.exposure.pi_B),
        "bucket_share": measured.exposure.pi_B.tolist(),
        "cell_correlation": {name: _correlation(judge.uplift, truth_BK, measured) for name, judge in judges.items()},
        "protocols": {name: _differences(judge, list(scores.values())) for name, judge in judges.items()},
        "gate": _verdicts(judges, list(scores.values()), findings, len(data.y_J), config),
        "findings": [_record(item) for item in findings],
    }


def run_case(judged: JudgedSet, elsewhere: JourneyTable | None, seed: int, config: JudgeConfig) -> dict[str, Any]:
    """What the battery finds, alone; of a broken candidate with the journeys of another platform (candidate.py)."""
    measured = measure(judged.arrays, config)
    findings = _battery(measured, judged, seed, config, elsewhere)
    return {**_counts(measured), "findings": [_record(item) for item in [*findings, *_audits(measured, judged, seed)]]}


def _counts(measured: Measured) -> dict[str, int]:
    data = measured.data
    return {
        "journeys": len(data.y_J), "uploads": int(data.y_J.sum()), "clusters": len(data.cluster_K),
        "buckets": measured.buckets.count,
    }  # fmt: skip


def _record(item: Finding) -> dict[str, Any]:
    return {
        "test": item.test, "statistic": item.statistic, "threshold": item.threshold, "verdict": item.verdict,
        "blocks": item.blocks is not None,
    }  # fmt: skip


def _rankings(judged: JudgedSet, measured: Measured, seed: int) -> tuple[Floats, dict[str, Floats]]:
    """The true effects of the cells, and the zoo's scores."""
    if not np.isfinite(judged.truth_T).all():
        raise AlmMtaError("the world says nothing of the effects of some touches of the judged journeys")
    truth_BK = _cell_means(judged.truth_T, measured)
    scores = perturbed(truth_BK, measured.exposure.w_BK, np.random.default_rng(seed))
    return truth_BK, scores | {name: _cell_means(credit_T, measured) for name, credit_T in judged.credit_T.items()}


def _audits(measured: Measured, judged: JudgedSet, seed: int) -> list[Finding]:
    """The randomised audit of a better ranking against a worse one, and of the worse against the better."""
    judges = {uplift.judge: _seat(uplift, measured) for uplift in measured.judges}
    if "randomised" not in judges:
        return []
    scores = _rankings(judged, measured, seed)[1]
    better, worse = ({name: judge.areas(scores[ranking]) for name, judge in judges.items()} for ranking in AUDITED)
    found = []
    for title, own, rival in (("better", better, worse), ("worse", worse, better)):
        keys = {name: judge.key(own[name], rival[name]) for name, judge in judges.items()}
        audit = randomised_audit(keys["randomised"], [keys[name] for name in KEYS if name in keys], "its rival")
        found.append(replace(audit, test=AUDITS[title]))
    return found


def _cell_means(value_T: Floats, measured: Measured) -> Floats:
    """Mean per bucket and cluster of the touches that have a value; 0 where none has. [B, K]."""
    data, buckets, known_T = measured.data, measured.buckets, np.isfinite(value_T)
    count_BK = data.per_cell(known_T.astype(np.float64), buckets.bucket_J, buckets.count)
    total_BK = data.per_cell(np.where(known_T, value_T, 0.0), buckets.bucket_J, buckets.count)
    return np.asarray(total_BK / np.maximum(count_BK, 1.0))


def _seat(uplift: Uplift, measured: Measured) -> Judge:
    return seat(uplift, measured.exposure, measured.replicates, seed=measured.seed)


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


def _battery(
    measured: Measured, judged: JudgedSet, seed: int, config: JudgeConfig, elsewhere: JourneyTable | None = None
) -> list[Finding]:
    snapshots: dict[str, Any] = {}
    if judged.table is None or measured.fd is None:
        diagnostics = stand_in(measured)
    elif elsewhere is None:
        diagnostics, snapshots = sound(measured, judged.table, seed)
    else:
        diagnostics, snapshots = broken(measured, judged.table, elsewhere, seed)
    return run_battery(
        data=measured.data, basis_JF=measured.basis_JF, buckets=measured.buckets, exposure=measured.exposure,
        replicates=measured.replicates, obs=measured.obs, fd=measured.fd, diagnostics=diagnostics,
        config=config.falsification, snapshots=snapshots,
    )  # fmt: skip
