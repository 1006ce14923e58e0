"""Before anything is spent: what these logs can support. A rough count, not the judge's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from features.duck import fetch_one, session
from features.journeys import JourneyConfig
from features.reader import Logs

CELL_TREATED = 2_500
"""Median treated journeys a cell from which the judge's tests have power (validation.buckets)."""

COUNTS = """
WITH touches AS (
    SELECT user_id, cluster_id, ts, lag(ts) OVER (PARTITION BY user_id ORDER BY ts) AS before FROM touchpoints
), sessions AS (
    SELECT *, sum((before IS NULL OR ts - before > $inactivity)::INT) OVER (PARTITION BY user_id ORDER BY ts) AS session
    FROM touches
), seen AS (
    SELECT user_id, session, cluster_id, max(max(ts)) OVER (PARTITION BY user_id, session) AS t_obs
    FROM sessions GROUP BY user_id, session, cluster_id
), usable AS (SELECT * FROM seen WHERE t_obs <= $judge_end), per_cluster AS (
    SELECT cluster_id, count(*) AS sessions FROM usable GROUP BY cluster_id
)
SELECT (SELECT count(*) FROM (SELECT DISTINCT user_id, session FROM seen)),
       (SELECT count(*) FROM (SELECT DISTINCT user_id, session FROM usable)),
       (SELECT count(DISTINCT cluster_id) FROM usable),
       (SELECT coalesce(median(sessions), 0) FROM per_cluster)
"""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What the logs can support."""

    journeys: int
    """Sessions, about the journeys before censoring."""
    judged: int
    """Of these, about as many will be judged."""
    clusters: int
    """Content clusters in them."""
    treated_per_cell: int
    """Judge journeys that the median cluster touched, with one bucket."""
    lacking: tuple[str, ...]
    """Optional parts that are absent, and what is lost with each."""

    @property
    def buckets(self) -> int:
        """Propensity buckets, 0 to 5, that keep the median cell at CELL_TREATED."""
        return min(5, self.treated_per_cell // CELL_TREATED)

    def lines(self) -> list[str]:
        """For people."""
        power = (
            f"enough for {self.buckets} propensity bucket{'s' if self.buckets > 1 else ''}"
            if self.buckets
            else f"the judge wants {CELL_TREATED:,}: expect an inconclusive verdict unless rare clusters can be merged"
        )
        counts = f"about {self.journeys:,} journeys, {self.judged:,} for the judge, {self.clusters:,} clusters"
        return [counts, f"median cluster: {self.treated_per_cell:,} judge journeys; {power}", *self.lacking]


def preflight(logs: Logs, config: JourneyConfig) -> Preflight:
    """Count sessions, clusters and what is missing in `logs`."""
    judge_share = 1 - config.fit_share - config.selection_share
    judge_end = logs.latest_ts - timedelta(hours=config.horizon_hours, days=config.post_days)
    with session() as connection:
        logs.register(connection)
        sessions, usable, clusters, median = fetch_one(
            connection, COUNTS, {"inactivity": timedelta(minutes=config.inactivity_minutes), "judge_end": judge_end}
        )
    return Preflight(
        journeys=int(sessions),
        judged=int(usable * judge_share),
        clusters=int(clusters),
        treated_per_cell=int(median * judge_share),
        lacking=_lacking(logs),
    )


def _lacking(logs: Logs) -> tuple[str, ...]:
    lost = []
    if not logs.responses and not logs.has_upload_embeddings:
        lost.append("no responses and no upload embeddings: no mediator evidence, credits are associational")
    elif not logs.responses:
        lost.append("no responses: the mediator rests on content matches alone")
    if not logs.has_users:
        lost.append("no users/ table: no profiles, one propensity bucket")
    if not logs.has_item_embeddings:
        lost.append("no item embeddings: content is known by cluster only")
    return tuple(lost)
