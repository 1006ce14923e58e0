"""One sqlite file: write-ahead log, every commit on disk, one writer at a time, an audit trail that cannot be edited.

A process that is killed loses at most the transaction it had not committed. Each audit row carries a hash over the one
before it, hash_i = SHA-256(hash_{i−1}, at, actor, action, detail): a changed or missing row breaks the chain.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from features.errors import AllocatorError

SCHEMA_VERSION = 1
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
    """CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
    """CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
)


def utc_now() -> str:
    """ISO 8601 with microseconds, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Database:
    """The allocator's sqlite file; safe to share between threads, and between processes that each open it."""

    def __init__(self, path: Path, *, busy_timeout_s: float = 30.0) -> None:
        """Open `path`, or make it with the current schema. Raises AllocatorError when it is of another version."""
        self.path = path
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

    def check_writable(self) -> None:
        """Raises sqlite3.Error when no transaction can be begun and written."""
        with self.transaction() as connection:
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION:d}")


def append_audit(connection: sqlite3.Connection, *, actor: str, action: str, detail: dict[str, Any]) -> None:
    """Add one audit row inside the transaction whose effect it records. `detail` must name no user."""
    last = connection.execute("SELECT hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    row = (utc_now(), actor, action, json.dumps(detail, sort_keys=True))
    connection.execute(
        "INSERT INTO audit (at, actor, action, detail, hash) VALUES (?, ?, ?, ?, ?)",
        (*row, _chained(GENESIS if last is None else last["hash"], row)),
    )


def verify_audit(database: Database) -> int:
    """Rows of the audit trail, every hash recomputed. Raises AllocatorError naming the first row that does not fit."""
    previous = GENESIS
    rows = database.rows("SELECT seq, at, actor, action, detail, hash FROM audit ORDER BY seq")
    for expected_seq, row in enumerate(rows, start=1):
        content = (row["at"], row["actor"], row["action"], row["detail"])
        if row["seq"] != expected_seq or row["hash"] != _chained(previous, content):
            raise AllocatorError(
                f"{database.path}: audit row {row['seq']} does not follow from the row before it: "
                "the trail was edited or the file is damaged; compare it with a backup"
            )
        previous = row["hash"]
    return len(rows)


def _chained(previous: str, content: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps([previous, *content]).encode()).hexdigest()
