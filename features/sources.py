"""The Feast sources, derived from the logs with DuckDB: one sorted Parquet file a view.

    profile   users/ as it is
    activity  touches and uploads of a user over the trailing 7 and 28 days, at the end of a UTC day
    item      embedding and publication, from the moment the item is there
    author    catalogue and exposures of an author, at the end of a UTC day

A day's row is stamped with the midnight after it, so nothing of a day is known before it is over. Trailing
counts change when a day comes in and when it leaves the window, so rows are written on those days only
(d, d + 7, d + 28): the latest row before a moment is then exact, however quiet the user has been.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import duckdb

from features.duck import quote, session, used, write_parquet
from features.files import atomic_file, remove_unfinished
from features.journey_files import positioned_touches
from features.parts import is_built, seal
from features.reader import Logs

logger = logging.getLogger(__name__)

_DAY = "epoch_us(ts) // 86400000000"
_DAY_END = "make_timestamp((day + 1) * 86400000000)"


def _trailing(column: str, key: str, days: int) -> str:
    frame = f"PARTITION BY {key} ORDER BY day RANGE BETWEEN {days - 1} PRECEDING AND CURRENT ROW"
    return f"CAST(sum({column}) OVER ({frame}) AS BIGINT) AS {column}_{days}d"


ACTIVITY = f"""
WITH events AS (
    SELECT user_id, {_DAY} AS day, 1 AS touches, 0 AS uploads FROM touches
    UNION ALL SELECT user_id, {_DAY}, 0, 1 FROM uploads
), daily AS (
    SELECT user_id, day, sum(touches) AS touches, sum(uploads) AS uploads FROM events GROUP BY user_id, day
), ticks AS (
    FROM daily
    UNION ALL SELECT user_id, day + 7, 0, 0 FROM daily
    UNION ALL SELECT user_id, day + 28, 0, 0 FROM daily
), filled AS (
    SELECT user_id, day, sum(touches) AS touches, sum(uploads) AS uploads FROM ticks GROUP BY user_id, day
)
SELECT user_id, {_DAY_END} AS event_timestamp,
       {_trailing("touches", "user_id", 7)}, {_trailing("touches", "user_id", 28)},
       {_trailing("uploads", "user_id", 7)}, {_trailing("uploads", "user_id", 28)}
FROM filled WHERE {_DAY_END} <= $log_end
ORDER BY user_id, event_timestamp
"""

CATALOGUE_SEEN = """
WITH pairs AS (
    SELECT item_id, author_id, cluster_id, count(*) AS n, min(ts) AS seen_ts
    FROM touches GROUP BY item_id, author_id, cluster_id
)
SELECT item_id, arg_max(author_id, rank) AS author_id, arg_max(cluster_id, rank) AS cluster_id,
       min(seen_ts) AS seen_ts
FROM (SELECT *, row_number() OVER (PARTITION BY item_id ORDER BY n, author_id, cluster_id) AS rank FROM pairs)
GROUP BY item_id
"""
"""Items as the touches know them; where touches disagree on the author, the most frequent pair counts."""

CATALOGUE = """
CREATE TEMP TABLE catalogue AS
SELECT item_id, author_id, cluster_id, {embedding} AS has_embedding, published_ts,
       coalesce(published_ts, seen_ts, $log_start) AS since
FROM ({items}) LEFT JOIN (SELECT item_id, seen_ts FROM ({seen})) USING (item_id)
"""

ITEM = """
SELECT item_id, since AS event_timestamp, has_embedding,
       epoch_us(published_ts) // 86400000000 AS published_day
FROM catalogue ORDER BY item_id
"""

AUTHOR = f"""
WITH exposed AS (
    SELECT author_id, {_DAY} AS day, count(*) AS exposures FROM touches GROUP BY author_id, day
), born AS (
    SELECT author_id, epoch_us(since) // 86400000000 AS day, count(*) AS items FROM catalogue
    GROUP BY author_id, day
), ticks AS (
    SELECT author_id, day, exposures, 0 AS items FROM exposed
    UNION ALL SELECT author_id, day + 1, 0, 0 FROM exposed
    UNION ALL SELECT author_id, day + 7, 0, 0 FROM exposed
    UNION ALL SELECT author_id, day, 0, items FROM born
), filled AS (
    SELECT author_id, day, sum(exposures) AS exposures, sum(items) AS items FROM ticks GROUP BY author_id, day
)
SELECT author_id, {_DAY_END} AS event_timestamp,
       CAST(sum(items) OVER (PARTITION BY author_id ORDER BY day) AS BIGINT) AS catalogue_items,
       {_trailing("exposures", "author_id", 1)}, {_trailing("exposures", "author_id", 7)}
FROM filled WHERE {_DAY_END} <= $log_end
ORDER BY author_id, event_timestamp
"""


def write_sources(logs: Logs, journeys_dir: Path, folder: Path, fingerprint: str) -> None:
    """Write profile (if the logs have users/), activity, item and author .parquet into `folder`, each atomically.

    fingerprint: of all they come from; those that are there already are not written again. After a failure, or a kill,
    some are of the run before and manifest.json names others, so that the next run writes them all.
    """
    if is_built(folder, fingerprint):
        logger.info("feature sources: %s is up to date", folder)
        return
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    queries = {"activity": ACTIVITY, "item": ITEM, "author": AUTHOR}
    if logs.has_users:
        queries["profile"] = _profile_query(logs)
    with session(scratch=folder) as connection:
        logs.register(connection)
        positioned_touches(connection, journeys_dir).create_view("touches")
        make_catalogue(connection, logs)
        for name, query in queries.items():
            with atomic_file(folder / f"{name}.parquet") as temporary:
                write_parquet(connection, query, temporary, used(query, {"log_end": logs.latest_ts}))
    seal(folder, fingerprint)
    logger.info("feature sources: %s, %.1f s", ", ".join(sorted(queries)), time.monotonic() - began)


def make_catalogue(connection: duckdb.DuckDBPyConnection, logs: Logs) -> None:
    """Make the table `catalogue`, a row an item: item_id, author_id, cluster_id, has_embedding, published_ts, since.

    The connection knows the logs' views and `touches`.
    """
    published = "" if logs.has("items", "published_ts") else ", NULL::TIMESTAMP AS published_ts"
    from_items = f"SELECT *{published} FROM items"
    from_touches = f"SELECT * EXCLUDE seen_ts, NULL::TIMESTAMP AS published_ts FROM ({CATALOGUE_SEEN})"
    embedding = "CAST(embedding IS NOT NULL AS BIGINT)" if logs.has("items", "embedding") else "0::BIGINT"
    statement = CATALOGUE.format(
        items=from_items if logs.has_items else from_touches, seen=CATALOGUE_SEEN, embedding=embedding
    )
    connection.execute(statement, used(statement, {"log_start": logs.earliest_ts}))


def _profile_query(logs: Logs) -> str:
    columns = ", ".join(map(quote, ("user_id", "event_timestamp", *(p.name for p in logs.profile))))
    return f"SELECT {columns} FROM users ORDER BY user_id, event_timestamp"
