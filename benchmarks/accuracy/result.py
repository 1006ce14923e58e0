"""What is checked in of a benchmark: one dict of everything, as JSON, Markdown and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.accuracy.figures import figures
from benchmarks.accuracy.metrics import FLAGGED_SHARE
from benchmarks.accuracy.report import to_markdown
from benchmarks.accuracy.summary import summarise
from benchmarks.accuracy.unit import ORACLE, Record, Records, Unit
from benchmarks.methods.interface import Method
from benchmarks.output import write_texts
from benchmarks.provenance import provenance

PACKAGES = ("alm-mta", "duckdb", "feast", "lightning", "numpy", "pandas", "pyarrow", "scipy", "torch")


def result_of(units: Sequence[Unit], methods: Mapping[str, Method], records: Records, command: str) -> dict[str, Any]:
    """Everything that the records of these units say, with what is needed to repeat it."""
    cells: dict[tuple[str, str], dict[int, Record]] = {}
    for unit in units:
        for name in (*methods, ORACLE):
            record = records.read(unit, name) or {"failed": "no record"}
            cells.setdefault((unit.name, name), {})[unit.seed] = record
    worlds = {unit.name: unit.world for unit in units}
    return {
        **provenance("benchmarks.accuracy", [], PACKAGES),
        "command": command,
        "settings": {
            "set": units[0].world_set,
            "users": units[0].users,
            "seeds": sorted({unit.seed for unit in units}),
            "randomised_share": units[0].world.randomised_share,
            "randomised_users": units[0].randomised_users,
            "flagged_share": FLAGGED_SHARE,
        },
        "methods": {name: {"family": method.family, "source": method.source} for name, method in methods.items()},
        "worlds": {
            name: {
                "family": type(world).__name__,
                "front_door_holds": world.front_door_holds,
                "confounded": world.confounded,
                "parameters": asdict(world),
            }
            for name, world in worlds.items()
        },
        **summarise(cells, list(worlds), methods),
    }


def write_result(result: Mapping[str, Any], name: str, out: Path) -> list[Path]:
    """accuracy-NAME.json, .md and figures under `out`."""
    texts = {".json": to_json(result), ".md": to_markdown(result)}
    texts |= {f"-{figure}.svg": svg for figure, svg in figures(result).items()}
    return write_texts(out, f"accuracy-{name}", texts)


def to_json(value: Any, depth: int = 2) -> str:
    """JSON, sorted, with a line for each entry down to `depth`: rows can be compared, and the file stays small."""
    if depth == 0 or not isinstance(value, (dict, list)) or not value:
        return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False)
    if isinstance(value, list):
        inner, ends = [to_json(item, depth - 1) for item in value], "[]"
    else:
        items = sorted(value.items())
        inner, ends = [f"{json.dumps(key)}: {to_json(item, depth - 1)}" for key, item in items], "{}"
    return ends[0] + "\n" + ",\n".join(inner) + "\n" + ends[1]
