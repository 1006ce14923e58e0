"""What command lines of benchmarks share: names chosen from what there is, sets of worlds, where records are kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from jsonargparse import ArgumentParser

from benchmarks.output import RESULTS
from features.errors import ConfigError

Named = TypeVar("Named")
SETS = ("report", "selection")


def chosen(option: str, asked: str, known: Mapping[str, Named]) -> dict[str, Named]:
    """Those of `known` that the comma-separated `asked` names, all if it names none. Raises ConfigError."""
    names = [name.strip() for name in asked.split(",") if name.strip()] or list(known)
    for name in names:
        if name not in known:
            raise ConfigError(f"{option} {name}: there are {', '.join(known)}")
    return {name: known[name] for name in names}


def add_set(parser: ArgumentParser) -> None:
    """Which worlds and seeds."""
    parser.add_argument(
        "--set", type=str, default="report",
        help="report: worlds and seeds that nothing was tuned on; selection: those to tune on",
    )  # fmt: skip


def check_set(asked: str) -> None:
    """Raises ConfigError where --set names none of SETS."""
    if asked not in SETS:
        raise ConfigError(f"--set {asked}: there are {', '.join(SETS)}")


def add_records(parser: ArgumentParser, *, work: str, fresh: str, unnamed: str) -> None:
    """How records are computed, where they are kept and what comes of them."""
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, of one thread each")
    parser.add_argument("--fresh", action="store_true", help=fresh)
    parser.add_argument("--name", type=str, default="", help=f"of the result; {unnamed} unless given")
    parser.add_argument("--work", type=Path, default=Path(work), help="where records are kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
