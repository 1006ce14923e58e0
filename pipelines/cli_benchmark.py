"""`alm-mta benchmark NAME ...`: benchmarks are found as entry points, since the pipelines know nothing of them."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points

from features.errors import ConfigError
from pipelines.cli_parser import listing

GROUP = "alm_mta.benchmarks"
"""Entry points of functions that take the arguments after NAME and return the exit code."""


def benchmark(arguments: list[str]) -> int:
    """One benchmark; without a name, the list of them."""
    found = {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(_overview(found))
        raise SystemExit(0)
    if name not in found:
        raise ConfigError(f"no benchmark '{name}': there are {', '.join(found) or 'none; install the package again'}")
    code: int = found[name].load()(rest)
    return code


def _overview(found: dict[str, EntryPoint]) -> str:
    summaries = {name: (point.load().__doc__ or "").split("\n")[0] for name, point in found.items()}
    return listing("usage: alm-mta benchmark NAME [--help] ...", summaries, "Every benchmark has --help.")
