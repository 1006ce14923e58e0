"""What it takes to repeat a measurement."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from typing import Any


def provenance(module: str, arguments: Sequence[str] | None, packages: Sequence[str]) -> dict[str, Any]:
    """The command line of `python -m module`, the machine and the versions, fit for JSON."""
    return {
        "command": shlex.join(["python", "-m", module, *(sys.argv[1:] if arguments is None else arguments)]),
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in packages},
    }


def headline(made: dict[str, Any]) -> str:
    """One line of Markdown under a result's title."""
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    return f"`{made['command']}` on {made['machine']['cores']} cores ({made['machine']['architecture']}); {versions}."
