"""Small line charts as inline SVG that takes its colours and font from the page, in light and in dark.

Matplotlib draws with placeholder colours, which become CSS variables afterwards; text stays text. The same data give
the same bytes: no date, ids from a fixed salt, and only those ids that something refers to.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Placeholder -> what the page's style sheet calls it. Series colours are told apart by dashes, too.
_CSS = {
    "#0a0b01": "var(--text-quiet)",
    "#0a0b02": "var(--line)",
    "#0a0b03": "var(--series-0)",
    "#0a0b04": "var(--series-1)",
    "#0a0b05": "var(--series-2)",
    "#0a0b06": "var(--series-3)",
    "#0a0b07": "var(--series-4)",
}
_QUIET, _LINE, *_SERIES = _CSS
DASHES = ("solid", (0, (6, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (8, 3)))


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series: points (x, y) of equal length, an optional band [low, high], and which style of `DASHES`."""

    x: Sequence[float]
    y: Sequence[float]
    style: int
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def line_chart(
    lines: Sequence[Line],
    *,
    label: str,
    x_label: str,
    x_ticks: Sequence[float] | None = None,
    y_limits: tuple[float, float] | None = None,
    chord: bool = False,
    inches: tuple[float, float] = (2.6, 2.1),
) -> str:
    """An `<svg role="img">` with `label` for those who cannot see it.

    chord: draw the straight line between the ends of the first series (what a random order would gain).
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "alm-mta", "font.size": 9, "axes.linewidth": 0.7}):
        figure = Figure(figsize=inches)
        figure.subplots_adjust(left=0.14, right=0.98, top=0.96, bottom=0.21)
        axes = figure.add_subplot()
        _style(axes, x_label)
        if chord and lines:
            ends = (lines[0].x[0], lines[0].x[-1]), (lines[0].y[0], lines[0].y[-1])
            axes.plot(*ends, color=_LINE, linewidth=1.2)
        for line in reversed(lines):  # the first series is drawn last, on top
            _draw(axes, line)
        if x_ticks is not None:
            axes.set_xticks(x_ticks)
        if y_limits is not None:
            axes.set_ylim(*y_limits)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue(), label)


def _style(axes: Axes, x_label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.grid(axis="y", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_LINE)
    axes.tick_params(length=0, colors=_QUIET, labelcolor=_QUIET)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.ticklabel_format(style="plain", useOffset=False)
    axes.set_xlabel(x_label, color=_QUIET)


def _draw(axes: Axes, line: Line) -> None:
    style = line.style % len(DASHES)
    color = _SERIES[style]
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.14, linewidth=0)
    marker = "o" if len(line.x) == 1 else None
    width = 1.9 if style == 0 else 1.3
    axes.plot(line.x, line.y, color=color, linewidth=width, linestyle=DASHES[style], marker=marker, markersize=4)


def _inline(svg: str, label: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", svg, flags=re.DOTALL)
    for placeholder, name in _CSS.items():
        svg = svg.replace(placeholder, name)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r'\s+id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r" font-family:[^;]*;|\s+transform=\"rotate\(-0 [^\"]*\"", "", svg)
    head = f'<svg role="img" aria-label="{label}" viewBox='
    svg = re.sub(r"<svg\b.*?viewBox=", head, svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(viewBox="[^"]*")[^>]*>', r"\1>", svg, count=1)
    return re.sub(r"\s*\n\s*", "\n", svg)
