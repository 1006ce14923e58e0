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

from features.files import (
    read_json,
    remove_dir,
    remove_leftovers,
    remove_unfinished,
    sha256_file,
    sha256_json,
    write_json,
)

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


def place_of_parts(out: Path, work: Path | None, name: str) -> Path:
    """The folder `work`/`name` for the finished parts of `out`, work being beside `out` unless given.

    What killed builds left half there, beside it and beside `out` is gone: one build of `out` at a time.
    """
    parts = (Path(work) if work is not None else out.with_name(f".{out.name}.parts")) / name
    for written in (out, parts):
        remove_leftovers(written)
    remove_unfinished(parts)
    _remove_empty(parts.parent)
    return parts


@contextmanager
def kept(parts: Path) -> Iterator[None]:
    """The folder stays where a build ends early, for the next one to go on with, and goes when the whole is there."""
    parts.mkdir(parents=True, exist_ok=True)
    yield
    remove_dir(parts)
    _remove_empty(parts.parent)


def _remove_empty(work: Path) -> None:
    with suppress(OSError):  # others may keep theirs there
        work.rmdir()


def missing(parts: Sequence[tuple[Path, str]]) -> list[int]:
    """Which parts' folders do not hold what their fingerprints name. parts: folder and fingerprint of each."""
    found = [number for number, part in enumerate(parts) if not is_built(*part)]
    if len(found) < len(parts):
        logger.info("%d of %d parts are there already", len(parts) - len(found), len(parts))
    return found


def fingerprint_of(*inputs: Any, libraries: Sequence[ModuleType]) -> str:
    """SHA-256 over all that decides what is built and its bytes: inputs, as JSON, this package's code, the versions."""
    code = [sha256_file(module) for module in sorted(Path(__file__).parent.glob("*.py"))]
    return sha256_json([*inputs, code, [library.__version__ for library in libraries]])
