"""The judge benchmark as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.judge.summary import MARGIN
from benchmarks.provenance import headline

COLUMNS = {"right": "pairs right", "promotes_worse": "promotes worse", "refuses_better": "refuses better",
           "rejects_better": "rejects better"}  # fmt: skip


def to_markdown(result: Mapping[str, Any]) -> str:
    """Targets, then rates of every world and size with its battery, then the power of every test."""
    settings = result["settings"]
    lines = [
        "# What each protocol makes of rankings of known quality", "", headline(dict(result)), "",
        f"Worlds: {settings['set']} set, seeds from {settings['first_seed']}. Rankings: "
        f"{', '.join(settings['rankings'])}. A challenger counts as better from {MARGIN:g} A_oracle on. "
        "Brackets are 95% intervals; see benchmarks/judge/summary.py and targets.py for the definitions.", "",
    ]  # fmt: skip
    for size in result["sizes"]:
        lines += [f"## {size['users']:,} users", "", *_targets(size["targets"]), ""]
        lines += [*_table(size["worlds"]), "", *_battery(size["worlds"]), ""]
    if any("says" in row[side] for row in result["powers"] for side in ("flags", "quiet")):
        lines += ["## Power and false alarms of the falsification tests", "", *_powers(result["powers"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _targets(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = ["| asked | where | by | found | limit | holds |", "|---|---|---|---|---|---|"]
    for row in rows:
        limit = f"≥ {row['least']:g}" if row["least"] is not None else f"≤ {row['most']:g}" if row["most"] else ""
        holds = {None: "", True: "yes", False: "no"}[row["holds"]]
        worlds = ", ".join(row["worlds"])
        lines.append(f"| {row['what']} | {worlds} | {row['by']} | {_rate(row['rate'])} | {limit} | {holds} |")
    return lines


def _powers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "Share of data sets in which a test fails or warns, where it must and where it must not (median of its "
        "statistic; share of data sets too small for it to say anything).", "",
        "| test | must flag | power | must not | false alarms |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        flags, quiet = row["flags"], row["quiet"]
        named = "" if quiet["test"] == flags["test"] else f" ({quiet['test']})"
        lines.append(
            f"| {row['test']} | {flags['case']} | {_told(flags)} | {quiet['case']}{named} | {_told(quiet)} |"
        )  # fmt: skip
    return lines


def _told(found: Mapping[str, Any]) -> str:
    if "says" not in found:
        return "not run"
    middle = [] if found["statistic"] is None else [f"{found['statistic'][1]:.2g}"]
    silent = found["no_power"]["value"]
    middle += [f"no power in {silent:.2f}"] if silent else []
    return f"{_rate(found['says'])} of {found['data_sets']}" + (f" ({'; '.join(middle)})" if middle else "")


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
    """A row a test, a column a world."""
    names = list(dict.fromkeys(test for found in worlds.values() for test in found["tests"]))
    lines = [
        "Share of data sets in which a test fails or warns:", "",
        f"| test | {' | '.join(worlds)} |", f"|{'---|' * (1 + len(worlds))}",
        f"| **any that blocks** | {' | '.join(_rate(found['flagged']) for found in worlds.values())} |",
    ]  # fmt: skip
    for test in names:
        cells = [_rate(found["tests"][test]["says"]) if test in found["tests"] else "" for found in worlds.values()]
        lines.append(f"| {test} | {' | '.join(cells)} |")
    return lines


def _rate(found: Mapping[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return ""
    digits = 2 if 0.02 < found["value"] < 0.98 else 3
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
