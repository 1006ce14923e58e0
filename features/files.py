"""Files that are either whole or absent: write to a temporary name, fsync, rename.

Temporary names begin with a dot and are nobody else's, whatever machine writes there too. A process that is killed
leaves its own behind; whoever knows that nobody writes there now may remove them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any
from uuid import uuid4

from features.errors import ConfigError


def _temporary(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex[:12]}.{kind}")


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes that wrote or removed `path` left beside it. Nobody may be writing it now."""
    for kind in ("tmp", "old"):
        for left in path.parent.glob(f".{escape(path.name)}.*.{kind}"):
            _remove(left)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left in a folder, which is all that has a dot before its name."""
    for left in folder.glob(".*"):
        _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it is gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path, "tmp")
    try:
        yield temporary
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path`, on failure it is gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, replaced = _temporary(path, "tmp"), _temporary(path, "old")
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _fsync(file)
        if path.exists():
            path.replace(replaced)
        temporary.replace(path)
        _fsync(path.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_dir(path: Path) -> None:
    """Remove a folder whose files a later run may go on with: gone from its name at once, so never found half there."""
    removed = _temporary(path, "old")
    path.replace(removed)
    shutil.rmtree(removed, ignore_errors=True)


def refuse_foreign(out: Path, marker: str) -> None:
    """ConfigError when `out`, which is about to be replaced, holds something else than this command's own result."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / marker).is_file():
        raise ConfigError(f"--out {out}: holds files but no {marker}, so it is not this command's to replace")


def link(source: Path | str, target: Path | str) -> None:
    """The same file under another name; a copy where the two are on different file systems."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as sorted, indented JSON, atomically; NaN and infinity are refused."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of `value` as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
