"""Which models were pushed, by whose approval, and which one serves: what a restarted service goes by.

push: active -> standby, new -> active          roll back: active -> withdrawn, latest standby -> active
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace

from allocator.database import Database, append_audit, utc_now
from allocator.errors import Conflict, NotFound


@dataclass(frozen=True, kw_only=True)
class PushedModel:
    """One pushed version."""

    name: str
    version: str
    sha256: str
    """SHA-256 of the bundle's manifest.json, which holds the hash of every other file."""
    feature_schema_hash: str
    approval_id: str
    """What approved it: the gate's decision."""
    pushed_at: str = ""
    """UTC, ISO 8601."""
    state: str = "active"
    """active (serves), standby (served before; a rollback goes there) or withdrawn (rolled back from)."""

    @property
    def label(self) -> str:
        return f"model '{self.name}' version '{self.version}'"


_COLUMNS = "name, version, sha256, feature_schema_hash, approval_id, pushed_at, state"


class History:
    """The pushed models in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, name: str, version: str) -> PushedModel | None:
        return self._one("name = ? AND version = ?", (name, version))

    def active(self) -> PushedModel | None:
        return self._one("state = 'active'")

    def previous(self) -> PushedModel:
        """Where a rollback would go. Raises NotFound when there is no such version."""
        standby = self._one("state = 'standby'")
        if standby is None:
            raise NotFound("there is no earlier model to roll back to")
        return standby

    def activate(self, model: PushedModel, *, actor: str) -> PushedModel:
        """Record a new version as the active one. Raises Conflict when the version exists."""
        pushed = replace(model, pushed_at=utc_now(), state="active")
        with self._database.transaction() as connection:
            if self.find(model.name, model.version) is not None:
                raise Conflict(f"{model.label} was already pushed")
            connection.execute("UPDATE model SET state = 'standby' WHERE state = 'active'")
            connection.execute(
                f"INSERT INTO model ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    pushed.name,
                    pushed.version,
                    pushed.sha256,
                    pushed.feature_schema_hash,
                    pushed.approval_id,
                    pushed.pushed_at,
                    pushed.state,
                ),
            )
            _audit(connection, "model.push", pushed, actor)
        return pushed

    def roll_back(self, *, actor: str) -> PushedModel:
        """Withdraw the active version and reactivate the one before it. Raises NotFound when there is none."""
        with self._database.transaction() as connection:
            target = replace(self.previous(), state="active")
            connection.execute("UPDATE model SET state = 'withdrawn' WHERE state = 'active'")
            connection.execute(
                "UPDATE model SET state = 'active' WHERE name = ? AND version = ?", (target.name, target.version)
            )
            _audit(connection, "model.rollback", target, actor)
        return target

    def _one(self, condition: str, parameters: tuple[str, ...] = ()) -> PushedModel | None:
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM model WHERE {condition} ORDER BY seq DESC LIMIT 1", parameters
        )
        return PushedModel(**dict(rows[0])) if rows else None


def _audit(connection: sqlite3.Connection, action: str, model: PushedModel, actor: str) -> None:
    detail = {
        "name": model.name,
        "version": model.version,
        "sha256": model.sha256,
        "approval_id": model.approval_id,
    }
    append_audit(connection, actor=actor, action=action, detail=detail)
