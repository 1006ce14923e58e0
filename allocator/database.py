"""One sqlite file: write-ahead log, every commit on disk, one writer at a time, an audit trail that shows edits.

A process that is killed loses at most the transaction it had not committed. Each audit row carries a hash over the one
before it, hash_i = SHA-256(hash_{i−1}, at, actor, action, detail), and `audit_head` holds the number of rows and the
last hash, written in the same transaction. So a row that was changed, inserted or removed, the last ones included, is
noticed. The hashes have no key: whoever may write the file can recompute all of them, head included. Only a head that
was kept elsewhere shows that (a service logs its own when it starts).
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from features.errors import AllocatorError

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 2
GENESIS = "0" * 64

SCHEMA = (
    """CREATE TABLE budget (
        name TEXT PRIMARY KEY,
        total INTEGER NOT NULL,
        spent INTEGER NOT NULL DEFAULT 0,
        CHECK (0 <= spent AND spent <= total)
    ) STRICT""",
    """CREATE TABLE spend (
        request_id TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        budget TEXT NOT NULL REFERENCES budget (name),
        units INTEGER NOT NULL CHECK (units >= 0),
        answer TEXT NOT NULL,
        at TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE spend_line (
        request_id TEXT NOT NULL REFERENCES spend (request_id),
        position INTEGER NOT NULL,
        user_id INTEGER NOT NULL,
        item_id INTEGER NOT NULL,
        cost INTEGER NOT NULL,
        value REAL NOT NULL,
        PRIMARY KEY (request_id, position)
    ) STRICT""",
    "CREATE INDEX spend_line_user ON spend_line (user_id)",
    """CREATE TABLE model (
        seq INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        feature_schema_hash TEXT NOT NULL,
        approval_id TEXT NOT NULL,
        pushed_at TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('active', 'standby', 'withdrawn')),
        UNIQUE (name, version)
    ) STRICT""",
    "CREATE UNIQUE INDEX one_active_model ON model (state) WHERE state = 'active'",
    """CREATE TABLE audit (
        seq INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        detail TEXT NOT NULL,
        hash TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE audit_head (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        count INTEGER NOT NULL,
        hash TEXT NOT NULL
    ) STRICT""",
    f"INSERT INTO audit_head VALUES (1, 0, '{GENESIS}')",
    """CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
    """CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
    """CREATE TRIGGER audit_head_no_delete BEFORE DELETE ON audit_head
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
)


def utc_now() -> str:
    """ISO 8601 with microseconds, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Database:
    """The allocator's sqlite file; safe to share between threads, and between processes that each open it."""

    def __init__(self, path: Path, *, busy_timeout_s: float = 30.0, probe_interval_s: float = 10.0) -> None:
        """Open `path`, or make it with the current schema. Raises AllocatorError when it is of another version.

        `check_usable` writes at most once in `probe_interval_s`.
        """
        self.path = path
        self._probe_interval_s = probe_interval_s
        self._probe_due = time.monotonic()
        self._lock = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
        try:
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._create_schema()
        except BaseException:
            self._connection.close()
            raise

    def _create_schema(self) -> None:
        with self.transaction() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION:d}")
            elif version != SCHEMA_VERSION:
                raise AllocatorError(
                    f"{self.path} has schema version {version}, this release reads version {SCHEMA_VERSION}: "
                    "start it with the release that wrote it, or give it another state_dir"
                )

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The write lock from the first statement on; commits at the end, rolls back on any exception."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        """What was committed last."""
        with self._lock:
            return self._connection.execute(sql, parameters).fetchall()

    def check_usable(self) -> None:
        """Raises sqlite3.Error when the file cannot be read, or not be written; a write that went well is not repeated
        for `probe_interval_s`, because it locks the file and waits for the disk."""
        with self._lock:
            self.rows("SELECT count FROM audit_head")
            if time.monotonic() >= self._probe_due:
                with self.transaction() as connection:
                    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION:d}")
                self._probe_due = time.monotonic() + self._probe_interval_s


def append_audit(connection: sqlite3.Connection, *, actor: str, action: str, detail: dict[str, Any]) -> None:
    """Add one audit row inside the transaction whose effect it records. `detail` must name no user."""
    head = connection.execute("SELECT count, hash FROM audit_head").fetchone()
    row = (utc_now(), actor, action, json.dumps(detail, sort_keys=True))
    count, chained = head["count"] + 1, _chained(head["hash"], row)
    connection.execute(
        "INSERT INTO audit (seq, at, actor, action, detail, hash) VALUES (?, ?, ?, ?, ?, ?)", (count, *row, chained)
    )
    connection.execute("UPDATE audit_head SET count = ?, hash = ?", (count, chained))


def verify_audit(database: Database) -> int:
    """Rows of the audit trail, every hash recomputed and the end compared with the head.

    Raises AllocatorError naming the first row that does not fit, or how many rows should be there.
    """
    count, previous = 0, GENESIS
    with database.transaction() as connection:  # no row is added between the trail and its head
        for row in connection.execute("SELECT seq, at, actor, action, detail, hash FROM audit ORDER BY seq"):
            content = (row["at"], row["actor"], row["action"], row["detail"])
            count += 1
            if row["seq"] != count or row["hash"] != _chained(previous, content):
                raise _not_whole(database, f"audit row {row['seq']} does not follow from the row before it")
            previous = row["hash"]
        head = connection.execute("SELECT count, hash FROM audit_head").fetchone()
    if head is None or (head["count"], head["hash"]) != (count, previous):
        expected = "is missing" if head is None else f"says {head['count']} rows, last hash {head['hash']}"
        raise _not_whole(database, f"the audit trail has {count} rows, last hash {previous}; its head {expected}")
    logger.info("audit trail of %s: %d rows, head %s", database.path, count, previous)
    return count


def _not_whole(database: Database, what: str) -> AllocatorError:
    return AllocatorError(f"{database.path}: {what}: it was edited or the file is damaged; compare it with a backup")


def _chained(previous: str, content: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps([previous, *content]).encode()).hexdigest()
