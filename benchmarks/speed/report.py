"""The result as Markdown, and the stages' costs over the size of the logs as a figure."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.accuracy.figures import STYLE
from benchmarks.provenance import headline
from benchmarks.speed.stages import LONG_S, LONG_TURNS

MOST_EXPONENT = 1.05


def to_markdown(result: Mapping[str, Any]) -> str:
    """Contests, stages and extrapolation, as far as there are any."""
    parts = ["# Speed against limits", "", headline(dict(result)), ""]
    if result["contests"]:
        parts += _contests(result["contests"], result["settings"]["repetitions"])
    if result["stages"]:
        parts += _stages(result["stages"], result["settings"]["turns"]) + _extrapolation(result["extrapolation"])
    return "\n".join([*parts, ""])


def _contests(contests: Mapping[str, Any], repetitions: int) -> list[str]:
    lines = [
        f"Median of {repetitions} repetitions (least to largest). Every measurement is a process of its own, which "
        "imports and prepares before the clock starts, and follows one of the same contestant that does not count; "
        "contestants take turns, and who goes first rotates. A limit is met where the median keeps it.", "",
        "| contest | size | measure | value | limit | met |", "|---|---|---|---:|---|---|",
    ]  # fmt: skip
    for name, contest in contests.items():
        size = ", ".join(f"{count:,} {what}" for what, count in contest["sizes"].items())
        for check in contest["checks"]:
            met = {None: "", True: "yes", False: "**no**"}[check["met"]]
            median, least, most = (_number(check["value"][name]) for name in ("median", "least", "most"))
            value = f"{median} ({least} to {most})"
            lines.append(f"| {name} | {size} | {check['what']}, {check['unit']} | {value} | {check['limit']} | {met} |")
    lines += [
        "", "| contest | contestant | CPU s | wall s | peak MiB | read MB | written MB | start-up CPU s |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for name, contest in contests.items():
        for contestant, costs in contest["costs"].items():
            lines.append(f"| {name} | {contestant} | {_cells(costs)} |")
    return [*lines, ""]


def _stages(stages: Mapping[str, Any], turns: int) -> list[str]:
    lines = [
        "## Stages", "",
        f"The cheapest of {turns} turns (at most {LONG_TURNS} of stages over {LONG_S:g} CPU s), each a process of its "
        "own; the sizes take turns, after the first of them (not in long stages) each following one that does not "
        "count. The exponent k of cpu(n) = s + c nᵏ is that of the two largest sizes, s being the least cost at "
        f"{stages['floor']:,} touchpoints or more; at most {MOST_EXPONENT} is asked for.", "",
        "| stage | touchpoints | rows | CPU s | wall s | peak MiB | read MB | written MB | start-up CPU s | k |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for each in stages["costs"]:
        k = stages["exponents"][each["stage"]]
        last = each["touches"] == max(other["touches"] for other in stages["costs"])
        shown = "" if not last or k is None else f"{k:.2f}" if k <= MOST_EXPONENT else f"**{k:.2f}**"
        lines.append(
            f"| {each['stage']} | {each['touches']:,} | {each['cost']['rows']:,} | {_cells([each['cost']])} | {shown} |"
        )
    return [*lines, ""]


def _extrapolation(scale: Mapping[str, Any]) -> list[str]:
    touches, price = scale["touches"], scale["price"]
    lines = [
        f"## {scale['samples']:,} samples", "",
        f"A sample is a journey: {scale['samples']:,} · {scale['touches_a_sample']:.2f} touchpoints = {touches:.3g} "
        f"touchpoints. Core-hours = CPU s / touchpoints measured · {touches:.3g} / 3600: shards of the largest size "
        f"measured, start-up included. A core-hour costs {price:g}. Training is one epoch. Stored: what the stage "
        "leaves, of open_logs the logs themselves.", "",
        "| stage | arithmetic | core-hours | cost | stored TB |", "|---|---|---:|---:|---:|",
    ]  # fmt: skip
    for each in scale["stages"]:
        sum_ = f"{each['cpu_s']:.3g} / {each['measured_touches']:.3g} · {touches:.3g} / 3600"
        stored = f"{each['stored_tb']:.2f}" if each["stored_tb"] else ""
        lines.append(f"| {each['stage']} | {sum_} | {each['core_hours']:,.0f} | {each['cost']:,.0f} | {stored} |")
    total = [sum(each[name] for each in scale["stages"]) for name in ("core_hours", "cost", "stored_tb")]
    return [*lines, f"| all | | {total[0]:,.0f} | {total[1]:,.0f} | {total[2]:.2f} |"]


def _cells(costs: Sequence[Mapping[str, Any]]) -> str:
    def median(name: str) -> float:
        return float(statistics.median(cost[name] for cost in costs))

    names = ("cpu_s", "wall_s", "peak_mib", "read_mb", "written_mb", "startup_cpu_s")
    return " | ".join(_number(median(name)) for name in names)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def figure(stages: Mapping[str, Any]) -> str:
    """CPU seconds of every stage over touchpoints, both logarithmic, as SVG; the same result gives the same bytes."""
    with rc_context(STYLE):
        drawn = Figure(figsize=(6.2, 4), layout="constrained")
        axes = drawn.add_subplot()
        for name in stages["exponents"]:
            points = [(each["touches"], each["cost"]["cpu_s"]) for each in stages["costs"] if each["stage"] == name]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1, label=name)
        axes.set(xscale="log", yscale="log", xlabel="touchpoints", ylabel="CPU seconds, imports left out")
        axes.grid(alpha=0.3, linewidth=0.4)
        axes.legend(frameon=False, fontsize=7)
        text = io.StringIO()
        drawn.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
