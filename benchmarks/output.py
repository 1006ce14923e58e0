"""Where results are checked in, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.files import atomic_file, write_json

RESULTS = Path(__file__).resolve().parent / "results"


def write_texts(out: Path, name: str, texts: Mapping[str, str]) -> list[Path]:
    """Write NAME.SUFFIX under `out` for every suffix -> text, each file whole or absent; returns their paths."""
    paths = {out / f"{name}{suffix}": text for suffix, text in texts.items()}
    for path, text in paths.items():
        with atomic_file(path) as file:
            file.write_text(text)
    return list(paths)


def write_result(out: Path, name: str, result: Mapping[str, Any], markdown: str) -> Path:
    """Write NAME.json and NAME.md under `out`; returns the latter's path."""
    write_json(out / f"{name}.json", result)
    return write_texts(out, name, {".md": markdown})[0]
