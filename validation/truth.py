"""Credits against a world's known truth (`truth/` beside the logs), on the judge's touches.

    slope = cov(Δ, Δ̂) / var(Δ̂)        1 is calibrated
    PEHE/sd = √mean (Δ̂ − Δ)² / sd(Δ)   Hill (2011), J. Comput. Graph. Stat. 20(1)
    efficiency of the top 1% = mean Δ of the touches with the 1% largest credits / mean Δ

Shapes: T touches, J journeys, K clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr

from features.duck import parquet_view, session
from features.storage import attach
from validation.judge_data import TouchKeys
from validation.shards import Floats, Ints

TOP_SHARE = 0.01


@dataclass(frozen=True, kw_only=True)
class TruthMetrics:
    """One ranking against the truth."""

    corr: float
    slope: float
    pehe_over_sd: float
    cluster_spearman: float
    top1_efficiency: float


def load_truth(logs_root: Path, keys: TouchKeys) -> Floats | None:
    """True Δ of every judge touch, NaN where the world says nothing of it; None without truth/touchpoints."""
    folder = logs_root / "truth" / "touchpoints"
    if not folder.is_dir():
        return None
    columns = {"user_id": keys.user_T, "t_obs": keys.t_obs_T, "ts": keys.ts_T, "item_id": keys.item_T}
    with session(threads=1) as connection:
        attach(connection, logs_root)
        parquet_view(connection, "truth", sorted(folder.glob("*.parquet")))
        connection.register("judge_touches", pa.table({"position": np.arange(len(keys.user_T)), **columns}))
        found = connection.execute(
            "SELECT j.position, t.delta::DOUBLE AS delta FROM truth t JOIN judge_touches j "
            "ON t.user_id = j.user_id AND epoch_us(t.t_obs::TIMESTAMP) = j.t_obs "
            "AND epoch_us(t.ts::TIMESTAMP) = j.ts AND t.item_id = j.item_id"
        ).fetchnumpy()
    truth_T = np.full(len(keys.user_T), np.nan)
    truth_T[found["position"]] = found["delta"]
    return truth_T


def load_p_do(logs_root: Path, user_J: Ints, t_obs_J: Ints) -> Floats:
    """True P(Y=1 | do T, x) of every journey (t_obs in microseconds), NaN where the world says nothing of it."""
    with session(threads=1) as connection:
        parquet_view(connection, "truth", sorted((logs_root / "truth" / "journeys").glob("*.parquet")))
        journeys = {"position": np.arange(len(user_J)), "user_id": user_J, "t_obs": t_obs_J}
        connection.register("asked", pa.table(journeys))
        found = connection.execute(
            "SELECT a.position, t.p_do::DOUBLE AS p_do FROM truth t JOIN asked a "
            "ON t.user_id = a.user_id AND epoch_us(t.t_obs::TIMESTAMP) = a.t_obs"
        ).fetchnumpy()
    p_do_J = np.full(len(user_J), np.nan)
    p_do_J[found["position"]] = found["p_do"]
    return p_do_J


def truth_metrics(estimate_T: Floats, truth_T: Floats, column_T: Ints) -> TruthMetrics | None:
    """Compare where the truth is known; None where it is nowhere known or the same everywhere (no effect)."""
    known_T = np.isfinite(truth_T)
    if not known_T.any() or truth_T[known_T].std() < 1e-12:
        return None
    estimate_T, truth_T, column_T = estimate_T[known_T], truth_T[known_T], column_T[known_T]
    covariance = np.cov(truth_T, estimate_T)
    varies = np.ptp(estimate_T) > 0
    count_K = np.bincount(column_T)
    present_K = count_K > 0
    mean_K = [np.bincount(column_T, v_T)[present_K] / count_K[present_K] for v_T in (truth_T, estimate_T)]
    ranked = varies and len(mean_K[1]) > 1 and np.ptp(mean_K[1]) > 0
    return TruthMetrics(
        corr=float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])) if varies else 0.0,
        slope=float(covariance[0, 1] / covariance[1, 1]) if varies else 0.0,
        pehe_over_sd=float(np.sqrt(np.mean((estimate_T - truth_T) ** 2)) / truth_T.std()),
        cluster_spearman=float(spearmanr(*mean_K).statistic) if ranked else 0.0,
        top1_efficiency=top_efficiency(estimate_T, truth_T),
    )


def top_efficiency(score_T: Floats, truth_T: Floats) -> float:
    """Mean truth of the touches with the largest scores over the mean truth."""
    return top_mean(score_T, truth_T, TOP_SHARE) / float(truth_T.mean())


def top_mean(score_T: Floats, truth_T: Floats, share: float) -> float:
    """Mean truth of the `share` of touches with the largest scores; ties share the places they fill."""
    places = max(round(share * len(score_T)), 1)
    edge = np.partition(score_T, len(score_T) - places)[len(score_T) - places]
    above, tied = score_T > edge, score_T == edge
    total = truth_T[above].sum() + (places - above.sum()) * truth_T[tied].mean()
    return float(total / places)
