"""Two figures as SVG: correlation of every method on every world, and AUUC in every propensity bucket.

The same result gives the same bytes: no date, ids from a fixed salt, text as text.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.accuracy.report import ordered
from benchmarks.accuracy.summary import BUCKET, CORRELATION, OURS
from benchmarks.accuracy.unit import ORACLE

COLOUR = {"ours": "#0b5fa5", "front-door": "#2a9d6f", "back-door": "#d1761f", "heuristic": "#8c8c8c"}
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "alm-mta", "font.size": 9, "axes.linewidth": 0.6}
PANELS_A_ROW = 5


def figures(result: Mapping[str, Any]) -> dict[str, str]:
    """Name -> SVG; the figures that the result has anything to show for."""
    methods = [name for name in ordered(result) if name != ORACLE]
    mean = {(row["world"], row["method"]): row["mean"] for row in result["results"]}
    ranked = [w for w in result["worlds"] if any(BUCKET + "1" in mean[w, m] for m in methods)]
    if not ranked:
        return {}
    family = {name: about["family"] for name, about in result["methods"].items()}
    return {
        "correlation": _correlations(mean, ranked, methods, family),
        "auuc": _areas(mean, ranked, methods, family),
    }


def _correlations(
    mean: Mapping[tuple[str, str], Mapping[str, float]], worlds: Sequence[str], methods: Sequence[str],
    family: Mapping[str, str],
) -> str:  # fmt: skip
    """Methods x worlds, the correlation written on a colour from -1 to 1."""
    value_MW = np.array([[mean[w, m].get(CORRELATION, np.nan) for w in worlds] for m in methods])
    with rc_context(STYLE):
        figure = Figure(figsize=(2.1 + 0.62 * len(worlds), 1.5 + 0.27 * len(methods)), layout="constrained")
        axes = figure.add_subplot()
        centres = np.arange(len(worlds)), np.arange(len(methods))
        axes.pcolormesh(*centres, value_MW, cmap="RdBu", vmin=-1.15, vmax=1.15, edgecolors="white", linewidth=1)
        axes.invert_yaxis()
        for m, w in np.ndindex(value_MW.shape):
            value = value_MW[m, w]
            text = "–" if np.isnan(value) else f"{value:z.2f}".replace("0.", ".").replace("-", "−")
            best = value == np.nanmax(value_MW[:, w], initial=-1)
            axes.text(
                w, m, text, ha="center", va="center", fontsize=8, fontweight="bold" if best else "normal",
                color="white" if abs(value) > 0.7 else "#222222",
            )  # fmt: skip
        axes.set_xticks(range(len(worlds)), worlds, rotation=40, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(len(methods)), methods)
        for label, name in zip(axes.get_yticklabels(), methods, strict=True):
            label.set_color(COLOUR[family[name]])
        axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
        axes.set_frame_on(False)
        axes.set_title("Correlation of credits with the true effects, touch by touch", fontsize=10, loc="left")
        return _svg(figure)


def _areas(
    mean: Mapping[tuple[str, str], Mapping[str, float]], worlds: Sequence[str], methods: Sequence[str],
    family: Mapping[str, str],
) -> str:  # fmt: skip
    """A panel a world: AUUC of every method in every bucket, ours joined by a line."""
    across = min(PANELS_A_ROW, len(worlds))
    down = -(-len(worlds) // across)
    with rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 1.9 * across, 1.0 + 1.65 * down), layout="constrained")
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        for axes, world in zip(grid.flat, worlds, strict=False):
            _panel(axes, world, {name: mean[world, name] for name in methods}, family)
        for axes in grid.flat[len(worlds) :]:
            axes.set_axis_off()
        names = {"ours": OURS, "front-door": "front-door peers", "back-door": "back-door peers"}
        names |= {"heuristic": "rules of thumb"}
        used = [kind for kind in names if kind in family.values()]
        marks = [Line2D([], [], color=COLOUR[kind], marker="o", markersize=4, linestyle="") for kind in used]
        figure.legend(marks, [names[kind] for kind in used], loc="outside lower center", ncols=4, frameon=False)
        figure.suptitle("AUUC against the truth by propensity bucket (½ random, 1 oracle)", fontsize=10)
        return _svg(figure)


def _panel(axes: Axes, world: str, mean: Mapping[str, Mapping[str, float]], family: Mapping[str, str]) -> None:
    axes.axhline(0.5, color="#bbbbbb", linewidth=0.7, linestyle=(0, (4, 3)))
    axes.set_title(world, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2, labelsize=8)
    for name in reversed(list(mean)):  # ours is first, and drawn on top
        points = sorted((int(k.removeprefix(BUCKET)), v) for k, v in mean[name].items() if k.startswith(BUCKET))
        if not points:
            continue
        ours = name == OURS
        axes.plot(
            *zip(*points, strict=True), color=COLOUR[family[name]], marker="o", markersize=4.5 if ours else 3,
            linestyle="-" if ours else "", linewidth=1.2, alpha=1.0 if ours else 0.65, markeredgewidth=0,
        )  # fmt: skip
        axes.set_xticks([place for place, _ in points])


def _svg(figure: Figure) -> str:
    figure.set_facecolor("white")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
