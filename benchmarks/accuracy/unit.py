"""What is computed and where it is kept: a unit is a world, a number of users and a seed; a record is a unit's method.

WORK/<set>/<world>/<users>-<seed>/<method>-<fingerprint>.json

The fingerprint is over the settings that a record follows from, code apart: after a change of code, forget the records
that it touches. Selection worlds and report worlds differ in parameters, their seeds never meet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from features.files import read_json, write_json
from validation.worlds import World

WorldSet = Literal["report", "selection"]
FIRST_SEED: dict[WorldSet, int] = {"selection": 11, "report": 501}
"""Seeds of a set's units are this one and those after it."""
FORMAT = 1
"""Raised when records come to hold other figures."""
ORACLE = "oracle"
"""The record of the truth itself: what no method can exceed."""

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One data set that every method is run on."""

    world_set: WorldSet
    name: str
    """The world's."""
    world: World
    users: int
    seed: int

    @property
    def randomised_users(self) -> int:
        """Users of the same world under randomised exposure."""
        return self.users // 4

    def settings(self, method: str) -> dict[str, Any]:
        """Everything but code that the record of `method` follows from."""
        return {
            "format": FORMAT,
            "world": {"set": self.world_set, "name": self.name, "family": type(self.world).__name__}
            | asdict(self.world),
            "users": self.users,
            "randomised_users": self.randomised_users,
            "seed": self.seed,
            "method": method,
        }


@dataclass(frozen=True, kw_only=True)
class Records:
    """The records under a folder."""

    root: Path

    def path(self, unit: Unit, method: str) -> Path:
        settings = json.dumps(unit.settings(method), sort_keys=True)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
        folder = self.root / unit.world_set / unit.name / f"{unit.users}-{unit.seed}"
        return folder / f"{method}-{digest}.json"

    def read(self, unit: Unit, method: str) -> Record | None:
        path = self.path(unit, method)
        return dict(read_json(path)) if path.is_file() else None

    def write(self, unit: Unit, method: str, record: Record) -> None:
        write_json(self.path(unit, method), {"settings": unit.settings(method)} | record)

    def forget(self, unit: Unit, methods: Sequence[str]) -> None:
        for method in methods:
            self.path(unit, method).unlink(missing_ok=True)

    def missing(self, unit: Unit, methods: Sequence[str]) -> tuple[str, ...]:
        """Methods without a record; a failure is no record, so that it is tried again."""
        found = {method: self.read(unit, method) for method in methods}
        return tuple(name for name, record in found.items() if record is None or "failed" in record)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Methods of one unit that have no record yet."""

    unit: Unit
    methods: tuple[str, ...]


def open_tasks(units: Sequence[Unit], methods: Sequence[str], records: Records, *, fresh: bool) -> list[Task]:
    """What is to be computed, all of it if `fresh`; old records of that are gone afterwards."""
    tasks = []
    for unit in units:
        missing = tuple(methods) if fresh else records.missing(unit, methods)
        records.forget(unit, missing)
        if missing:
            tasks.append(Task(unit=unit, methods=missing))
    return tasks
