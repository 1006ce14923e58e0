"""KuaiRand (https://kuairand.com, CC BY-SA 4.0): a feed of short videos with exposures drawn at random among the rest.

Gao et al. (2022), "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos", CIKM. Pure,
1K and 27K are folders of the same files: log_*.csv (all are read), user_features_*.csv, video_features_basic_*.csv.

| contract | from the files |
|---|---|
| touchpoint | a row of a log: user_id, item_id = video_id, ts = time_ms (UTC) |
| author_id, cluster_id | of the video; the cluster is its first tag (`features/importers/kuairand_tables.py`) |
| watch_ratio | min(play_time_ms / duration_ms, 1), null where duration_ms is not above 0 |
| liked, followed, commented, shared | is_like, is_follow, is_comment, is_forward |
| exposure_source | 'tab' and the number of the scenario |
| randomised | is_rand: the video was drawn at random from a pool |
| upload | a row whose outcome flag is 1, at its ts; numbered by (user_id, ts, item_id) |
| items | the videos; published_ts is upload_dt, from midnight in China |
| users | counts as numbers, flags (1 or not), the rest as categories; known from the first day of the logs on |

Nobody uploads in these logs, so one of the responses is made the outcome: what a user wrote, followed, forwarded or
liked. It is then no response any more, since it would tell the label. An upload at the moment of a touchpoint counts as
before it (`features/journeys.py`), so the exposure that was commented on is no cause of its own comment: credited is
what had been seen until then. With `outcome = 'follows'` the profile has no counts of followed users and friends
either: the tables are of one moment, perhaps after the logs, and those would count the outcome.

Rows of one user, video and millisecond are one touchpoint: responses are those of any of them, and it was random if all
of them say so. The *_range columns of the users only repeat their counts more coarsely, the statistics of the videos
are of the whole period and would tell the future; neither is read. is_click, long_view and the rest are not in the
contract.
"""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import duckdb

from features.contract import EARLIEST_SENSIBLE
from features.duck import MEMORY_LIMIT, fetch_one, parquet_view, quote, session
from features.errors import ConfigError
from features.importers.folder import PART, Summary, Workspace, build, identity_of
from features.importers.kuairand_tables import (
    CATEGORIES,
    COUNTS,
    FLAGS,
    FORMAT,
    open_users,
    open_videos,
    refuse_empty,
    user_rules,
    video_rules,
    videos_query,
)
from features.importers.published import Rule, TextFile, checked_view, flag, integer, number, open_text
from features.importers.refusal import reading, refuse_repeated
from features.importers.steps import rows_staged, rows_written, stage, staged, write_days, write_once

VERSION = 1
OUTCOMES = {"comments": "commented", "follows": "followed", "forwards": "shared", "likes": "liked"}
"""Outcome -> the response that it is made of."""
PUBLISHED = {"liked": "is_like", "shared": "is_forward", "followed": "is_follow", "commented": "is_comment"}
"""Response -> column of the logs."""
OUTCOME_COUNTS = {"follows": ("follow_user_num", "friend_user_num")}
"""Outcome -> counts of the profile that it adds to."""
EARLIEST_MS = int(EARLIEST_SENSIBLE.replace(tzinfo=UTC).timestamp() * 1000)
MORE_FLAGS = ("is_lowactive_period",)
MORE_CATEGORIES = tuple(f"onehot_feat{i}" for i in range(18))

LOG_RULES = (
    integer("user_id"),
    integer("video_id"),
    integer("time_ms", low=EARLIEST_MS, wanted="a Unix time in milliseconds"),
    Rule(
        column="time_ms",
        holds="TRY_CAST(time_ms AS BIGINT) <= epoch_ms(current_timestamp)",
        wanted="a time that has been",
    ),
    *(flag(column) for column in PUBLISHED.values()),
    flag("is_rand"),
    number("play_time_ms"),
    number("duration_ms", negative=True),
    integer("tab", high=99, wanted="the number of a scenario"),
)
KNOWN_VIDEO = Rule(
    column="video_id",
    holds="TRY_CAST(video_id AS BIGINT) IN (SELECT item_id FROM items)",
    wanted="a video of video_features_basic_*.csv",
)

_STAGED = f"""
SELECT *, CAST(ts AS DATE) AS dt FROM (
    SELECT CAST(user_id AS BIGINT) AS user_id, item_id, make_timestamp(1000 * CAST(time_ms AS BIGINT)) AS ts,
           CASE WHEN item_id IS NULL THEN error('no such video') ELSE author_id END AS author_id, cluster_id,
           CASE WHEN CAST(duration_ms AS DOUBLE) > 0
                THEN least(CAST(play_time_ms AS DOUBLE) / CAST(duration_ms AS DOUBLE), 1) END::FLOAT AS watch_ratio,
           {", ".join(f"{column} = '1' AS {response}" for response, column in PUBLISHED.items())},
           'tab ' || CAST(tab AS INTEGER) AS exposure_source, is_rand = '1' AS randomised
    FROM log LEFT JOIN items ON CAST(log.video_id AS BIGINT) = items.item_id)
"""

_TOUCHPOINTS = """
SELECT user_id, item_id, any_value(author_id) AS author_id, any_value(cluster_id) AS cluster_id, ts,
       max(watch_ratio) AS watch_ratio, {responses},
       min(exposure_source) AS exposure_source, bool_and(randomised) AS randomised
FROM day GROUP BY user_id, item_id, ts ORDER BY user_id, ts, item_id
"""

_UPLOADS = """
SELECT user_id, row_number() OVER (ORDER BY user_id, ts, item_id) - 1 AS upload_id, ts
FROM (SELECT DISTINCT user_id, item_id, ts FROM staged WHERE {outcome}) ORDER BY upload_id
"""


def import_kuairand(source: Path, out: Path, *, outcome: str = "comments", memory_limit: str = MEMORY_LIMIT) -> Summary:
    """Turn the published files in the folder `source`, or in its data/, into the contract's tables.

    outcome: which of OUTCOMES becomes an upload. memory_limit: DuckDB's.
    Raises ConfigError naming file, line, column and value of what is not in the format.
    """
    if outcome not in OUTCOMES:
        raise ConfigError(f"outcome is '{outcome}'; there are {', '.join(OUTCOMES)}")
    folder = _the_folder(Path(source))
    logs, (users,), (videos,) = (
        _files(folder, pattern, one=one)
        for pattern, one in (("log_*", False), ("user_features_*", True), ("video_features_basic_*", True))
    )
    identity = identity_of("kuairand", VERSION, [*logs, users, videos], {"outcome": outcome})
    needed = list(dict.fromkeys(rule.column for rule in LOG_RULES))
    log_files = [open_text(path, delimiter=",", needed=needed, format_name=FORMAT) for path in logs]
    users_file = open_users(users, ("user_id", *COUNTS, *FLAGS, *CATEGORIES))
    videos_file = open_videos(videos)

    def fill(workspace: Workspace) -> Summary:
        with session(memory_limit=memory_limit, scratch=workspace.scratch) as connection:
            _write_items(connection, workspace, videos_file)
            for file in log_files:
                _stage_log(connection, workspace, file)
            if not workspace.days():
                raise ConfigError(f"{folder}: no log holds a row; expected {FORMAT}")
            _write_users(connection, workspace, users_file, outcome)
            return _write_events(connection, workspace, folder, log_files, outcome)

    return build(Path(out), identity, fill)


def _the_folder(source: Path) -> Path:
    if not source.is_dir():
        raise ConfigError(f"{source}: is no folder; name the one with log_*.csv and the feature tables of KuaiRand")
    return source if any(source.glob("log_*")) or not (source / "data").is_dir() else source / "data"


def _files(folder: Path, pattern: str, *, one: bool) -> list[Path]:
    found = sorted(file for end in (".csv", ".csv.gz") for file in folder.glob(pattern + end))
    if not found or (one and len(found) > 1):
        named = ", ".join(file.name for file in found) or "none"
        raise ConfigError(f"{folder}: needs {'one' if one else 'a'} file {pattern}.csv, has {named}")
    return found


def _write_items(connection: duckdb.DuckDBPyConnection, workspace: Workspace, file: TextFile) -> None:
    path = workspace.tables / "items" / PART
    if not path.exists():
        with reading(connection, file, video_rules(file)):
            write_once(connection, videos_query(connection, file), path)
    parquet_view(connection, "items", path)


def _stage_log(connection: duckdb.DuckDBPyConnection, workspace: Workspace, file: TextFile) -> None:
    with reading(connection, file, (*LOG_RULES, KNOWN_VIDEO)):
        checked_view(connection, "log", file, LOG_RULES)
        stage(connection, workspace, file.path.name, _STAGED)


def _write_users(connection: duckdb.DuckDBPyConnection, workspace: Workspace, file: TextFile, outcome: str) -> None:
    """The profiles, from the first day of the logs on: when they were taken is not published."""
    counts = [name for name in COUNTS if name not in OUTCOME_COUNTS.get(outcome, ())]
    flags = [*FLAGS, *(name for name in MORE_FLAGS if name in file.columns)]
    categories = [*dict.fromkeys((*CATEGORIES, *(name for name in MORE_CATEGORIES if name in file.columns)))]
    columns = [
        *(f"CAST({quote(name)} AS DOUBLE) AS {quote(name)}" for name in counts),
        *(f"CAST({quote(name)} AS DOUBLE) = 1 AS {quote(name)}" for name in flags),
        *(f"regexp_replace({quote(name)}, '\\.0$', '') AS {quote(name)}" for name in categories),
    ]
    rules = user_rules(counts, flags)
    with reading(connection, file, rules):
        checked_view(connection, "profiles", file, rules)
        refuse_empty(connection, file, "profiles")
        refuse_repeated(connection, file, "user_id")
        write_once(
            connection,
            "SELECT CAST(user_id AS BIGINT) AS user_id, $since::TIMESTAMP AS event_timestamp, "
            f"{', '.join(columns)} FROM profiles ORDER BY user_id",
            workspace.tables / "users" / PART,
            {"since": workspace.days()[0]},
        )


def _write_events(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, folder: Path, files: list[TextFile], outcome: str
) -> Summary:
    """Touchpoints and uploads, from the stage."""
    made_of = OUTCOMES[outcome]
    responses = ", ".join(f"bool_or({name}) AS {name}" for name in PUBLISHED if name != made_of)
    write_days(connection, workspace, _TOUCHPOINTS.format(responses=responses))
    staged(connection, workspace, "staged", "*/dt=*")
    rows, outcomes, unwatched = fetch_one(
        connection, f"SELECT count(*), count_if({made_of}), count_if(watch_ratio IS NULL) FROM staged"
    )
    if not outcomes:
        raise ConfigError(
            f"{folder}: no row of the logs has {PUBLISHED[made_of]} 1; choose another outcome than {outcome}"
        )
    write_once(connection, _UPLOADS.format(outcome=made_of), workspace.tables / "uploads" / PART)
    written = rows_written(connection, workspace)
    remarks = {
        "rows of a user, video and millisecond that has one, counted once": rows - written["touchpoints"],
        "rows without a watch ratio, since duration_ms is not above 0": unwatched,
    }
    read = {file.path.name: rows_staged(connection, workspace, file.path.name) for file in files}
    return Summary(read=read, written=written, remarks={k: n for k, n in remarks.items() if n})
