"""Descriptive figures that the paper reports: none of them says anything causal, none is used by the gate.

A leaking index reaches an upload AUC of .99 with credits that are worth little: discriminative power is not causal
validity.

Shapes: J journeys.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from features.duck import parquet_view, session
from features.journey_files import TRAINING_TABLE, part_files
from validation.shards import Floats

ATTRIBUTED_SHARE = 0.1
"""A touch counts as attributed when it holds at least this share of its journey's credit."""
LISTED = 10


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Uploads with an attributed touch, as a share; and attributed touches per such upload."""

    coverage: float
    touches_per_covered_upload: float


def upload_metrics(p_J: Floats, y_J: Floats) -> dict[str, float]:
    """AUC (Mann-Whitney) and log-loss of P(Y | T, x) as observed; AUC is absent where only one class is."""
    clipped_J = np.clip(p_J, 1e-7, 1 - 1e-7)
    loss = -np.mean(y_J * np.log(clipped_J) + (1 - y_J) * np.log1p(-clipped_J))
    metrics = {"upload_log_loss": float(loss)}
    positives, negatives = y_J.sum(), (1 - y_J).sum()
    if positives and negatives:
        rank_sum = rankdata(p_J)[y_J == 1].sum()
        metrics["upload_auc"] = float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))
    return metrics


def credit_tables(credits_dir: Path, data_dir: Path) -> tuple[Coverage, list[dict[Any, Any]], list[dict[Any, Any]]]:
    """Coverage, clusters and creators by credit, from the candidate's credits of the judge split.

    Credit of a cluster or creator = Σ share over uploads: uploads attributed to it.
    """
    with session(threads=1) as connection:
        parquet_view(connection, "credits", credits_dir / "attributions" / "part-0.parquet")
        parquet_view(connection, "journeys", part_files(data_dir, TRAINING_TABLE))
        connection.execute(
            "CREATE TEMP TABLE judged AS SELECT c.user_id, c.t_obs, c.author_id, c.cluster_id, c.delta, c.share, "
            "c.label > 0 AS upload, c.label > 0 AND c.share >= $least AS attributed FROM credits c SEMI JOIN "
            "(SELECT user_id, t_obs FROM journeys WHERE split = 'judge') j USING (user_id, t_obs)",
            {"least": ATTRIBUTED_SHARE},
        )
        uploads, covered, attributed = connection.execute(
            "SELECT count(*), coalesce(sum((n > 0)::INT), 0), coalesce(sum(n), 0) FROM "
            "(SELECT sum(attributed::INT) AS n FROM judged WHERE upload GROUP BY user_id, t_obs)"
        ).fetchall()[0]
        clusters = connection.execute(
            "SELECT cluster_id, coalesce(sum(share) FILTER (upload), 0)::DOUBLE AS credit_sum, "
            "avg(delta)::DOUBLE AS mean_delta, count(*) AS touches FROM judged GROUP BY cluster_id "
            "ORDER BY mean_delta DESC, cluster_id"
        ).df()
        creators = connection.execute(
            "SELECT author_id, coalesce(sum(share) FILTER (upload), 0)::DOUBLE AS credit_sum, count(*) AS touches, "
            "count(DISTINCT (user_id, t_obs)) FILTER (attributed) AS covered_uploads FROM judged "
            "GROUP BY author_id ORDER BY credit_sum DESC, author_id LIMIT $listed",
            {"listed": LISTED},
        ).df()
    coverage = Coverage(
        coverage=float(covered / uploads) if uploads else 0.0,
        touches_per_covered_upload=float(attributed / covered) if covered else 0.0,
    )
    by_credit = clusters.nlargest(LISTED, "credit_sum").index
    listed = clusters.index[:LISTED].union(clusters.index[-LISTED:]).union(by_credit)
    return coverage, clusters.loc[listed].to_dict("records"), creators.to_dict("records")
