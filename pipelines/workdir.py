"""A run's place on disk: one run at a time in a workdir, and a run that did not finish is taken up again.

WORKDIR/
├── result.json          of the last run
├── mlflow.db, mlartifacts/, allocator/, feast/      outlive runs
└── runs/<run_id>/
    ├── run.json         {identity, finished}
    ├── steps/ cache/    outputs of the steps; finished steps of this run
    ├── checkpoints/     where a killed training goes on
    ├── log.txt          everything every step said
    └── result.json, report.html, data_docs/, attributions/
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from features.errors import WorkdirBusy
from features.files import read_json, write_json

PACKAGES = ("features", "validation", "model", "allocator", "components", "pipelines")


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """One run of the pipeline in a workdir."""

    run_id: str
    """UTC start time; sorts by age."""
    path: Path
    """WORKDIR/runs/<run_id>."""
    identity: str
    """Hex SHA-256 of everything the run depends on: config, logs and code."""
    resumed: bool
    """Whether an unfinished run of the same identity was taken up again."""

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def finish(self) -> None:
        """Mark the run as finished: the next one starts afresh."""
        write_json(self.path / "run.json", {"identity": self.identity, "finished": True})


@contextmanager
def only_run_in(workdir: Path) -> Iterator[None]:
    """Hold the workdir; raises WorkdirBusy naming the process that does."""
    workdir.mkdir(parents=True, exist_ok=True)
    holder = workdir / ".pid"
    lock = FileLock(workdir / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        pid = holder.read_text().strip() if holder.exists() else "unknown"
        raise WorkdirBusy(
            f"workdir {workdir} is held by a live run (process {pid}): wait for it, or name another folder"
        ) from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def open_run(workdir: Path, identity: str) -> RunFolder:
    """The newest run if it is unfinished and of this identity, else a new one."""
    runs = workdir / "runs"
    newest = max((folder.name for folder in runs.glob("*/") if (folder / "run.json").exists()), default=None)
    unfinished = {"identity": identity, "finished": False}
    if newest is not None and read_json(runs / newest / "run.json") == unfinished:
        return RunFolder(run_id=newest, path=runs / newest, identity=identity, resumed=True)
    run_id = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    run = RunFolder(run_id=run_id, path=runs / run_id, identity=identity, resumed=False)
    write_json(run.path / "run.json", unfinished)
    return run


def identity_of(config_yaml: str, logs_fingerprint: str) -> str:
    """Hex SHA-256 over the config, the logs' bytes and this project's source."""
    parts = (config_yaml, logs_fingerprint, source_fingerprint())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def source_fingerprint() -> str:
    """Hex SHA-256 of this project's packages: Python, templates, styles and what they bring along."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
