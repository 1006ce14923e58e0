"""KuaiRand's feature tables (https://kuairand.com, CC BY-SA 4.0): who the users are, what the videos are.

cluster   a video's first tag; tags of fewer than `RARE_TAG` videos, and videos without one, are one cluster
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from features.duck import fetch_one, quote
from features.errors import ConfigError
from features.importers.published import Rule, TextFile, checked_view, integer, number, open_text
from features.importers.refusal import refuse_repeated

COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
FLAGS = ("is_video_author", "is_live_streamer")
CATEGORIES = ("user_active_degree", "onehot_feat1", "onehot_feat9", "onehot_feat10")
FORMAT = "a CSV file of KuaiRand"
RARE_TAG = 40

VIDEO_RULES = (integer("video_id"), integer("author_id"))
PUBLISHED = Rule(
    column="upload_dt",
    holds="upload_dt IS NULL OR TRY_CAST(upload_dt AS DATE) IS NOT NULL",
    wanted="a date (YYYY-MM-DD), or empty",
)

_CLUSTERS = f"""
CREATE OR REPLACE TEMP VIEW clusters AS
WITH sizes AS (SELECT {{tag}} AS tag, count(*) AS size FROM videos_checked GROUP BY ALL),
tags AS (SELECT tag, size >= {RARE_TAG} AND tag <> '' AS is_common FROM sizes)
SELECT tag, is_common,
       CAST(CASE WHEN is_common THEN row_number() OVER (PARTITION BY is_common ORDER BY tag) - 1
            ELSE count_if(is_common) OVER () END AS INTEGER) AS cluster_id
FROM tags
"""
_VIDEOS = """
SELECT CAST(video_id AS BIGINT) AS item_id, CAST(author_id AS BIGINT) AS author_id, cluster_id,
       {published} AS published_ts
FROM videos_checked JOIN clusters ON {tag} = clusters.tag ORDER BY item_id
"""
_FIRST_TAG = "trim(split_part(coalesce(videos_checked.tag, ''), ',', 1))"
_PUBLISHED_TS = """
CASE WHEN CAST(upload_dt AS DATE) BETWEEN DATE '2000-01-02' AND current_date
     THEN CAST(upload_dt AS DATE)::TIMESTAMP - INTERVAL 8 HOUR END
"""
"""The day began 8 hours earlier in China than in UTC; a day of long ago or to come is an unknown one."""


def open_users(path: Path, needed: Sequence[str]) -> TextFile:
    """The `user_features_*.csv`; ConfigError where it lacks a column of `needed`."""
    return _opened(path, needed)


def open_videos(path: Path) -> TextFile:
    """The `video_features_basic_*.csv`; ConfigError where it lacks video_id, author_id or tag."""
    return _opened(path, ("video_id", "author_id", "tag"))


def user_rules(numbers: Sequence[str], flags: Sequence[str]) -> tuple[Rule, ...]:
    """Counts are numbers of 0 or more; a flag is 1, or another number for 'no'."""
    return (integer("user_id"), *(number(name) for name in numbers), *(number(name, negative=True) for name in flags))


def videos_query(connection: duckdb.DuckDBPyConnection, file: TextFile) -> str:
    """A query for item_id, author_id, cluster_id and published_ts of every video, by item_id.

    Makes the views that it reads, `clusters` (tag, is_common, cluster_id) among them. Call and run it within
    `reading(connection, file, video_rules(file))`. Raises ConfigError for a table without rows, or with a video that
    is there twice.
    """
    checked_view(connection, "videos_checked", file, video_rules(file))
    refuse_empty(connection, file, "videos_checked")
    refuse_repeated(connection, file, "video_id")
    connection.execute(_CLUSTERS.format(tag=_FIRST_TAG))
    published = _PUBLISHED_TS if "upload_dt" in file.columns else "NULL::TIMESTAMP"
    return _VIDEOS.format(tag=_FIRST_TAG, published=published)


def video_rules(file: TextFile) -> tuple[Rule, ...]:
    """The rules of the columns that `file` has."""
    return (*VIDEO_RULES, PUBLISHED) if "upload_dt" in file.columns else VIDEO_RULES


def refuse_empty(connection: duckdb.DuckDBPyConnection, file: TextFile, view: str) -> None:
    """ConfigError where `view`, the rows of the file, has none."""
    if not fetch_one(connection, f"SELECT count(*) FROM (SELECT 1 FROM {quote(view)} LIMIT 1)")[0]:
        raise ConfigError(f"{file.path}: holds no rows; expected {FORMAT}")


def _opened(path: Path, needed: Sequence[str]) -> TextFile:
    return open_text(path, delimiter=",", needed=needed, format_name=FORMAT)
