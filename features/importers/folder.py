"""Where an import builds its tables: beside the output, piece by piece, and then in its place.

.DIR.import/             of the unfinished import into DIR; gone when that is done
├── identity.json        what it is an import of: another one's pieces are thrown away
├── stage/               what was read, by source file and day
├── tables/              the contract's tables that are finished
└── scratch/             where queries spill
DIR/import.json          identity, rows in and out; the mark of a folder that an import may replace
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from features.errors import ConfigError, WorkdirBusy
from features.files import read_json, refuse_foreign, remove_dir, remove_leftovers, write_json

logger = logging.getLogger(__name__)

MARKER = "import.json"
PART = "part-0.parquet"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What an import did.

    read: source file -> rows. written: table -> rows. remarks: what became of rows that are not there as they
    were -> their number.
    """

    read: dict[str, int]
    written: dict[str, int]
    remarks: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The folders of one unfinished import, as drawn above."""

    stage: Path
    tables: Path
    scratch: Path

    def days(self) -> list[str]:
        """The days (YYYY-MM-DD) that any source file has rows of, in order."""
        return sorted({folder.name.removeprefix("dt=") for folder in self.stage.glob("*/dt=*")})


def identity_of(dataset: str, version: int, files: Sequence[Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """What two imports must share to have equal output: files by name, size and time of change; options; code."""
    sources = [{"name": f.name, "bytes": f.stat().st_size, "changed_ns": f.stat().st_mtime_ns} for f in files]
    return {"dataset": dataset, "version": version, "options": dict(options), "sources": sources}


def build(out: Path, identity: dict[str, Any], fill: Callable[[Workspace], Summary]) -> Summary:
    """Have `fill` write the tables, and put them in the place of `out`; an import that is there is not made again.

    Raises ConfigError for a folder `out` that no import wrote; WorkdirBusy while another import into it is alive.
    A ConfigError of `fill` leaves nothing behind; anything else leaves the finished pieces to the next call.
    """
    out = out.resolve()
    refuse_foreign(out, MARKER)
    unfinished = out.with_name(f".{out.name}.import")
    remove_leftovers(unfinished)
    if done := _finished(out, identity):
        logger.info("import: %s is there already, from the same files", out)
        return done
    with _alone(unfinished, out):
        workspace = _workspace(unfinished, identity)
        try:
            summary = fill(workspace)
        except ConfigError:
            remove_dir(unfinished)
            raise
        write_json(workspace.tables / MARKER, {"identity": identity, **asdict(summary)})
        shutil.rmtree(unfinished / "replaced", ignore_errors=True)
        if out.exists():
            out.rename(unfinished / "replaced")
        workspace.tables.rename(out)
        remove_dir(unfinished)
    return summary


def _finished(out: Path, identity: dict[str, Any]) -> Summary | None:
    if not (out / MARKER).is_file():
        return None
    written = read_json(out / MARKER)
    if written.pop("identity", None) != identity:
        return None
    return Summary(**written)


def _workspace(unfinished: Path, identity: dict[str, Any]) -> Workspace:
    """The finished pieces of an import of the same identity; none of another one, nor what a killed one left half."""
    known = unfinished / "identity.json"
    if not known.is_file() or read_json(known) != identity:
        for folder in unfinished.glob("*/"):
            shutil.rmtree(folder)
        write_json(known, identity)
    workspace = Workspace(**{name: unfinished / name for name in ("stage", "tables", "scratch")})
    shutil.rmtree(workspace.scratch, ignore_errors=True)
    for half in workspace.stage.glob(".*"):
        shutil.rmtree(half)
    for file in workspace.tables.rglob("*"):
        if file.is_file() and file.name != PART:
            file.unlink()
    for name in ("stage", "tables", "scratch"):
        (unfinished / name).mkdir(exist_ok=True)
    return workspace


@contextmanager
def _alone(unfinished: Path, out: Path) -> Iterator[None]:
    unfinished.mkdir(parents=True, exist_ok=True)
    lock = FileLock(unfinished / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise WorkdirBusy(f"another import into {out} is alive: wait for it, or name another folder") from None
    try:
        yield
    finally:
        lock.release()
