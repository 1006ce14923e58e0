"""The judge benchmark as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.judge.summary import MARGIN
from benchmarks.provenance import headline

COLUMNS = {"right": "pairs right", "promotes_worse": "promotes worse", "refuses_better": "refuses better",
           "rejects_better": "rejects better"}  # fmt: skip


def to_markdown(result: Mapping[str, Any]) -> str:
    """Rates of every world and size, then the battery."""
    settings = result["settings"]
    lines = [
        "# What each protocol makes of rankings of known quality", "", headline(dict(result)), "",
        f"Worlds: {settings['set']} set, seeds from {settings['first_seed']}. Rankings: "
        f"{', '.join(settings['rankings'])}. A challenger counts as better from {MARGIN:g} A_oracle on. "
        "Brackets are 95% intervals; see benchmarks/judge/summary.py for the definitions.", "",
    ]  # fmt: skip
    for size in result["sizes"]:
        lines += [f"## {size['users']:,} users", ""]
        lines += [*_table(size["worlds"]), "", *_battery(size["worlds"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(worlds: Mapping[str, Any]) -> list[str]:
    lines = [f"| world | protocol | r(cells) | {' | '.join(COLUMNS.values())} |", f"|{'---|' * (3 + len(COLUMNS))}"]
    for world, found in worlds.items():
        title = f"{world} ({found['data_sets']} x {found['journeys']:,.0f} journeys)"
        for protocol, rates in found["protocols"].items():
            corr = found["cell_correlation"].get(protocol)
            cells = [_rate(rates.get(what)) for what in COLUMNS]
            lines.append(f"| {title} | {protocol} | {'' if corr is None else f'{corr:.2f}'} | {' | '.join(cells)} |")
            title = ""
    return lines


def _battery(worlds: Mapping[str, Any]) -> list[str]:
    tests = list(dict.fromkeys(test for found in worlds.values() for test in found["tests"]))
    lines = [
        "Share of data sets in which a test blocks / fails or warns (median of its statistic):", "",
        f"| world | a flag blocks | {' | '.join(tests)} |", f"|{'---|' * (2 + len(tests))}",
    ]  # fmt: skip
    for world, found in worlds.items():
        cells = [_test(found["tests"].get(test)) for test in tests]
        lines.append(f"| {world} | {_rate(found['flagged'])} | {' | '.join(cells)} |")
    return lines


def _test(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    said = found["fail"]["value"] + found["warn"]["value"]
    middle = "" if found["statistic"] is None else f" ({found['statistic'][1]:.2g})"
    return f"{found['blocks']['value']:.2f} / {said:.2f}{middle}"


def _rate(found: Mapping[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return ""
    digits = 2 if 0.02 < found["value"] < 0.98 else 3
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
