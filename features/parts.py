"""Folders that say what they were built from, so that a killed build goes on with what is missing.

A build in parts writes each into such a folder of its own; the whole is put together when all are there.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from features.files import read_json, sha256_file, write_json

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


def missing(parts: Sequence[tuple[Path, str]]) -> list[int]:
    """Which parts' folders do not hold what their fingerprints name. parts: folder and fingerprint of each."""
    found = [number for number, part in enumerate(parts) if not is_built(*part)]
    if len(found) < len(parts):
        logger.info("%d of %d parts are there already", len(parts) - len(found), len(parts))
    return found


def fingerprint_of(*inputs: Any, code: Sequence[ModuleType] = (), libraries: Sequence[ModuleType] = ()) -> str:
    """SHA-256 over all that decides what is built and its bytes: inputs, as JSON, the modules' files, the versions."""
    files = [sha256_file(Path(module.__file__ or "")) for module in code]
    said = json.dumps([*inputs, files, [library.__version__ for library in libraries]], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()
