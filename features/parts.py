"""Folders that say what they were built from, so that a killed build goes on with what is missing.

A build in parts writes each into such a folder of its own; the whole is put together when all are there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from features.files import read_json, remove_dir, sha256_file, sha256_json, write_json

MANIFEST = "manifest.json"

logger = logging.getLogger(__name__)


def seal(folder: Path, fingerprint: str, **facts: Any) -> None:
    """Write manifest.json: what the folder was built from, the hash of every file, and facts about its content."""
    files = {
        str(file.relative_to(folder)): sha256_file(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    write_json(folder / MANIFEST, {**facts, "fingerprint": fingerprint, "files": files})


def is_built(folder: Path, fingerprint: str) -> bool:
    """Whether the folder holds, unharmed, what `fingerprint` names."""
    if not (folder / MANIFEST).is_file():
        return False
    manifest = read_json(folder / MANIFEST)
    return manifest.get("fingerprint") == fingerprint and all(
        (folder / name).is_file() and sha256_file(folder / name) == digest for name, digest in manifest["files"].items()
    )


@contextmanager
def kept_parts(out: Path, work: Path | None, name: str) -> Iterator[Path]:
    """Yield the folder `work`/`name` of the finished parts of `out`, work being beside `out` unless given.

    It stays where a build ends early, for the next one to go on with, and goes when the whole is there.
    """
    work = Path(work) if work is not None else out.with_name(f".{out.name}.parts")
    parts = work / name
    parts.mkdir(parents=True, exist_ok=True)
    yield parts
    remove_dir(parts)
    with suppress(OSError):  # others may keep theirs there
        work.rmdir()


def missing(parts: Sequence[tuple[Path, str]]) -> list[int]:
    """Which parts' folders do not hold what their fingerprints name. parts: folder and fingerprint of each."""
    found = [number for number, part in enumerate(parts) if not is_built(*part)]
    if len(found) < len(parts):
        logger.info("%d of %d parts are there already", len(parts) - len(found), len(parts))
    return found


def fingerprint_of(*inputs: Any, code: Sequence[ModuleType] = (), libraries: Sequence[ModuleType] = ()) -> str:
    """SHA-256 over all that decides what is built and its bytes: inputs, as JSON, the modules' files, the versions."""
    files = [sha256_file(Path(module.__file__ or "")) for module in code]
    return sha256_json([*inputs, files, [library.__version__ for library in libraries]])
