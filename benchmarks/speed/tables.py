"""Logs of any size in the data contract's tables, written by DuckDB in seconds: for measuring, nothing is to be learnt.

Every column is a hash of the row's number, so that equal sizes give equal rows. A user has TOUCHES_A_USER touches in
SESSIONS sessions of 20 min over DAYS days, and uploads a few minutes after some of them; popularity falls with rank.
Ids are stored alike at every size: by default a Parquet dictionary would hold those of few users, whose rows were then
half as long to read as those of many, and a stage would seem to grow faster than its rows.
"""

from __future__ import annotations

import pickle
from pathlib import Path

from features.duck import session
from features.reader import Logs, open_logs

TOUCHES_A_USER, SESSIONS, DAYS, FILES = 100, 20, 60, 5
UPLOADS_A_TOUCH = 0.02
DICTIONARY = 1000
"""Columns of more values than that get no dictionary."""
_START = 1_704_067_200_000_000  # 2024-01-01 in microseconds

_DRAWN = """
CREATE MACRO draw(i, salt) AS (hash(i * 100 + salt) >> 11) / 9007199254740992.0;
CREATE MACRO pick(i, salt, n) AS CAST(floor(draw(i, salt) * n) AS BIGINT);
CREATE MACRO popular(i, salt, n) AS CAST(floor(draw(i, salt) * draw(i, salt + 50) * n) AS BIGINT);
CREATE MACRO session_us(user_id, number) AS {start} + pick(user_id * {sessions} + number, 1, {days} * 86400000000);
"""
_TOUCHES = """
SELECT user_id, item_id, item_id % 977 AS author_id, CAST(item_id % 40 AS INTEGER) AS cluster_id,
       make_timestamp(session_us(user_id, pick(i, 2, {sessions})) + pick(i, 3, 1200000000)) AS ts,
       CAST(draw(i, 4) AS FLOAT) AS watch_ratio, draw(i, 5) < 0.1 AS liked, draw(i, 6) < 0.02 AS shared
FROM (SELECT i, pick(i, 7, {users}) AS user_id, popular(i, 8, {items}) AS item_id FROM range({low}, {high}) r(i))
"""
_UPLOADS = """
SELECT user_id, i AS upload_id,
       make_timestamp(session_us(user_id, pick(i, 9, {sessions})) + 1200000000 + pick(i, 10, 36000000000)) AS ts
FROM (SELECT i, popular(i, 11, {users}) AS user_id FROM range({low}, {high}) r(i))
"""
_USERS = """
SELECT i AS user_id, make_timestamp({start}) AS event_timestamp, draw(i, 12) * 60 AS age, pick(i, 13, 5) AS region
FROM range({low}, {high}) r(i)
"""
_COPY = "COPY ({query}) TO $file (FORMAT parquet, COMPRESSION zstd, DICTIONARY_SIZE_LIMIT {limit})"


def write_logs(root: Path, touches: int) -> None:
    """touchpoints/ of `touches` rows, uploads/ and users/ under `root`, each table in FILES files.

    What `open_logs` says of them is kept beside `root`: opening is a stage of its own, and takes memory.
    """
    users = max(touches // TOUCHES_A_USER, 10)
    sizes = {"touchpoints": touches, "uploads": max(round(touches * UPLOADS_A_TOUCH), 10), "users": users}
    queries = {"touchpoints": _TOUCHES, "uploads": _UPLOADS, "users": _USERS}
    values = {"start": _START, "days": DAYS, "sessions": SESSIONS, "users": users, "items": max(users // 4, 100)}
    with session() as connection:
        connection.execute(_DRAWN.format(**values))
        for name, rows in sizes.items():
            (root / name).mkdir(parents=True)
            for number in range(FILES):
                low, high = rows * number // FILES, rows * (number + 1) // FILES
                file = root / name / f"part-{number}.parquet"
                query = queries[name].format(**values, low=low, high=high)
                connection.execute(_COPY.format(query=query, limit=DICTIONARY), {"file": str(file)})
    root.with_suffix(".pickle").write_bytes(pickle.dumps(open_logs(root)))


def open_written(root: Path) -> Logs:
    """Logs that `write_logs` wrote, without checking them again."""
    logs: Logs = pickle.loads(root.with_suffix(".pickle").read_bytes())
    return logs
