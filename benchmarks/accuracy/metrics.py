"""A method's scores against what is known of the judged journeys. Absent keys: the figure is not defined there.

    correlation, slope, PEHE/sd, Spearman over clusters: `validation/truth.py`; rmse = √mean (Δ̂ − Δ)²,
    bias = mean Δ̂ − mean Δ, for worlds in which Δ does not vary

    AUUC     A_b = Σ_k w_bk u_bk (½ − s_bk), u = mean true Δ of bucket x cluster; ½ + ½ A_b / A_b(oracle)
             in every bucket, and pooled with the buckets' shares of touches (`validation/auuc.py`)
    gAUC     Σ_g n_g AUC_g / Σ_g n_g over groups g with both outcomes, n_g journeys      Zhu et al. (2017), KDD
    flagged  the FLAGGED_SHARE largest credits, the same share for every method, as far as they are positive; which of
             those that tie at the edge is drawn with a fixed seed
    coverage = P(some touch of the journey is flagged | upload); touches per covered upload = E(flagged | covered)
    true cause: Δ above its own 90th percentile; precision = P(cause | flagged), recall = P(flagged | cause)
    efficiency of the top q = mean Δ of the q largest credits / mean Δ of all touches (uniform exposure); against last
             touch: over the same figure of the credits y·[last touch of the journey]; of the oracle: over that of Δ
    interval coverage = P(|Δ̂ − Δ| ≤ 1.645 · stderr), .90 where standard errors are right
    P under randomised exposure: AUC and log-loss against the outcomes there, and √mean (p̂ − P(Y | do T, x))²

Methods that share out observed uploads cover every upload by their definition. Shapes: T touches, J journeys, B
buckets, K clusters, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.methods.interface import Scores
from validation.auuc import area_per_bucket, normalised, oracle_area, positions
from validation.buckets import Buckets
from validation.judge_arrays import Exposure, JudgeArrays
from validation.observational import upload_metrics
from validation.shards import Floats, Ints
from validation.truth import top_mean, truth_metrics

Bools = NDArray[np.bool_]

FLAGGED_SHARE = 0.10
CAUSE_QUANTILE = 0.90
TOP_SHARES = {"top1": 0.01, "top5": 0.05, "top10": 0.10}
Z90 = 1.644854
TIE_DIGITS = 10


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The journeys that methods are asked about, and the truth of their touches."""

    arrays: JudgeArrays
    buckets: Buckets
    exposure: Exposure
    truth_T: Floats
    """Δ of every touch."""
    last_T: Bools
    """Whether it is its journey's last."""
    user_J: Ints
    author_J: Ints
    """Who made the last item."""


@dataclass(frozen=True, kw_only=True)
class Randomised:
    """Journeys of the same world whose exposure was drawn at random."""

    y_J: Floats
    p_do_J: Floats
    """P(Y=1 | do T, x)."""


def measure(scores: Scores, judged: Judged, randomised: Randomised) -> dict[str, float]:
    """Every figure of the module's opening that these scores allow."""
    credit_T, y_J = scores.credit_N, judged.arrays.y_J
    figures = effect_errors(credit_T, judged) | ranking(credit_T, judged) | efficiencies(credit_T, judged)
    figures |= attribution(credit_T, judged)
    if scores.stderr_N is not None:
        inside_T = np.abs(credit_T - judged.truth_T) <= Z90 * scores.stderr_N
        figures["interval_coverage"] = float(inside_T.mean())
    if scores.abstained_N is not None:
        figures["abstained_share"] = float(scores.abstained_N.mean())
    if scores.p_J is not None:
        figures |= upload_metrics(scores.p_J, y_J)
        groups = {"gauc_user": judged.user_J, "gauc_author": judged.author_J}
        found = {name: gauc(scores.p_J, y_J, group_J) for name, group_J in groups.items()}
        figures |= {name: value for name, value in found.items() if value is not None}
    if scores.p_randomised_J is not None:
        figures |= {f"randomised_{k}": v for k, v in upload_metrics(scores.p_randomised_J, randomised.y_J).items()}
        figures["randomised_p_error"] = rmse(scores.p_randomised_J, randomised.p_do_J)
    return figures


def rmse(estimate: Floats, truth: Floats) -> float:
    """√mean (estimate − truth)²."""
    return float(np.sqrt(np.mean((estimate - truth) ** 2)))


def effect_errors(credit_T: Floats, judged: Judged) -> dict[str, float]:
    """correlation, slope, pehe_over_sd, cluster_spearman where Δ varies; rmse and bias everywhere."""
    truth_T = judged.truth_T
    figures = {"rmse": rmse(credit_T, truth_T), "bias": float(credit_T.mean() - truth_T.mean())}
    found = truth_metrics(credit_T, truth_T, judged.arrays.column_T)
    if found is None:
        return figures
    return figures | {
        "correlation": found.corr,
        "slope": found.slope,
        "pehe_over_sd": found.pehe_over_sd,
        "cluster_spearman": found.cluster_spearman,
    }


def ranking(credit_T: Floats, judged: Judged) -> dict[str, float]:
    """Normalised AUUC against the truth, auuc_bucket_1 .. _B by rising propensity, and auuc_pooled."""
    w_BK, pi_B = judged.exposure.w_BK, judged.exposure.pi_B
    u_BK, score_BK = _cell_means(judged.truth_T, judged), _cell_means(credit_T, judged)
    size = np.abs(score_BK).max() or 1.0
    rounded_BK = np.asarray(score_BK / size).round(TIE_DIGITS)  # equal credits tie, however their sums were rounded
    area_B = area_per_bucket(u_BK[None], positions(rounded_BK, w_BK), w_BK)[0]
    oracle_B = oracle_area(u_BK, w_BK)
    places = [f"auuc_bucket_{b + 1}" for b in range(len(area_B))]
    pairs = [*zip(area_B, oracle_B, strict=True), (area_B @ pi_B, oracle_B @ pi_B)]
    found = {name: normalised(*pair) for name, pair in zip([*places, "auuc_pooled"], pairs, strict=True)}
    return {name: float(value) for name, value in found.items() if value is not None}


def _cell_means(value_T: Floats, judged: Judged) -> Floats:
    """Mean per bucket and cluster, [B, K]; 0 where there is no touch."""
    data, buckets = judged.arrays, judged.buckets
    count_BK = data.per_cell(np.ones_like(value_T), buckets.bucket_J, buckets.count)
    return data.per_cell(value_T, buckets.bucket_J, buckets.count) / np.maximum(count_BK, 1.0)


def efficiencies(credit_T: Floats, judged: Judged) -> dict[str, float]:
    """top1, top5 and top10: _efficiency, _vs_last_touch, _of_oracle; against what is positive only."""
    truth_T = judged.truth_T
    last_touch_T = judged.arrays.y_J[judged.arrays.journey_T] * judged.last_T
    figures: dict[str, float] = {}
    for name, share in TOP_SHARES.items():
        gain = top_mean(credit_T, truth_T, share)
        against = {
            "efficiency": float(truth_T.mean()),
            "vs_last_touch": top_mean(last_touch_T, truth_T, share),
            "of_oracle": top_mean(truth_T, truth_T, share),
        }
        figures |= {f"{name}_{what}": gain / other for what, other in against.items() if other > 0}
    return figures


def attribution(credit_T: Floats, judged: Judged) -> dict[str, float]:
    """coverage, touches_per_covered_upload, precision and recall of the true causes."""
    flagged_T = flagged(credit_T, FLAGGED_SHARE)
    uploaded_J = judged.arrays.y_J > 0
    flagged_J = np.bincount(judged.arrays.journey_T, flagged_T, len(uploaded_J))
    covered_J = uploaded_J & (flagged_J > 0)
    cause_T = judged.truth_T > np.quantile(judged.truth_T, CAUSE_QUANTILE)
    figures = {}
    if uploaded_J.any():
        figures["coverage"] = float(covered_J.sum() / uploaded_J.sum())
    if covered_J.any():
        figures["touches_per_covered_upload"] = float(flagged_J[covered_J].mean())
    if flagged_T.any() and cause_T.any():
        figures["precision"] = float(cause_T[flagged_T].mean())
    if cause_T.any():
        figures["recall"] = float(flagged_T[cause_T].mean())
    return figures


def flagged(credit_T: Floats, share: float) -> Bools:
    """The round(share · T) largest credits, those above zero."""
    tie_break_T = np.random.default_rng(0).random(len(credit_T))
    largest = np.lexsort((tie_break_T, -credit_T))[: max(round(share * len(credit_T)), 1)]
    flagged_T = np.zeros(len(credit_T), dtype=bool)
    flagged_T[largest] = credit_T[largest] > 0
    return flagged_T


def gauc(score_J: Floats, y_J: Floats, group_J: Ints) -> float | None:
    """AUC within groups, weighted by their journeys; None where no group has both outcomes."""
    _, group_J = np.unique(group_J, return_inverse=True)
    rank_J = pd.Series(score_J).groupby(group_J).rank().to_numpy()
    positives_G = np.bincount(group_J, y_J)
    negatives_G = np.bincount(group_J, 1 - y_J)
    rank_sum_G = np.bincount(group_J, rank_J * y_J)
    pairs_G = positives_G * negatives_G
    both_G = pairs_G > 0
    if not both_G.any():
        return None
    auc_G = (rank_sum_G - positives_G * (positives_G + 1) / 2)[both_G] / pairs_G[both_G]
    return float(np.average(auc_G, weights=(positives_G + negatives_G)[both_G]))
