"""AUUC and Qini of a ranking of rows as causalml.metrics defines them: for comparison, never for the gate.

Rows by falling score; the top i hold N¹ treated and N⁰ untreated rows with outcomes Y¹ and Y⁰:
    gain  g(i) = i (Y¹/N¹ − Y⁰/N⁰),    AUUC = Σ_{i=0..n} g(i) / (n + 1)
    Qini  q(i) = Y¹ − Y⁰ N¹/N⁰,        Qini = Σ_{i=0..n} q(i) / (n + 1) − q(n) / 2
with g(0) = q(0) = 0, over |g(n)| or |q(n)| where normalised. Where the top m rows are the first with both arms (for q:
the first with an untreated row), g(i) = g(m) (i/m)² and q(i) = q(m) i/m for i < m.
Equal scores share one position: the curve is straight across them, so the order of rows never matters, and a constant
score has a normalised AUUC of ±½ and a Qini of 0 (causalml: as the sort happens to leave them). Undefined, hence None:
no rows, an empty arm, or normalised and a curve that ends at 0 (causalml: 0, NaN or ±∞). Σ_{i≤n} of a curve of straight
pieces is the area under it plus half its end, which is how it is summed.
|g(n)| is the level of uplift, which logs that were not randomised do not identify: hence never for the gate.
References: Gutierrez & Gérardy (2017), "Causal inference and uplift modelling: a review"; Radcliffe (2007), "Using
control groups to target on predicted lift"; `auuc_score` and `qini_score` of causalml 0.18.

Shapes: N rows, G groups of equal score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import ConfigError
from validation.shards import Floats, Ints

_BLOCK = 1 << 15
"""Rows at a time: what a block needs stays in the processor's cache, which is most of the speed."""


@dataclass(frozen=True, kw_only=True)
class Tops:
    """Tops of the ranking, each down to the last row of a group: their rows, rows and outcomes of each arm."""

    rows_G: Floats
    n1_G: Ints
    n0_G: Floats
    y1_G: Floats
    y0_G: Floats

    def since(self, group: int) -> Tops:
        """From `group` on."""
        return Tops(**{name: value_G[group:] for name, value_G in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A curve over tops, and how its area is read."""

    height: Callable[[Tops], Floats]
    least: Callable[[Tops], Floats]
    """The curve is defined from where this count is positive."""
    power: int
    """Of i/m, before that."""
    chance: float
    """Area that a random ranking has, as a share of the curve's end; it is subtracted."""


AUUC = Measure(
    height=lambda top: top.rows_G * (top.y1_G / top.n1_G - top.y0_G / top.n0_G),
    least=lambda top: np.minimum(top.n1_G, top.n0_G),
    power=2,
    chance=0.0,
)
QINI = Measure(
    height=lambda top: top.y1_G - top.y0_G * top.n1_G / top.n0_G, least=lambda top: top.n0_G, power=1, chance=0.5
)


def auuc_score(
    score_N: NDArray[Any], treated_N: NDArray[Any], y_N: NDArray[Any], *, normalise: bool = True
) -> float | None:
    """causalml's AUUC of the ranking by falling score; None where undefined.

    Scores are any numbers but NaN, `treated_N` is bool or 0/1, outcomes are finite. Raises ConfigError that names the
    argument which is none of this.
    """
    return _score(AUUC, score_N, treated_N, y_N, normalise=normalise)


def qini_score(
    score_N: NDArray[Any], treated_N: NDArray[Any], y_N: NDArray[Any], *, normalise: bool = True
) -> float | None:
    """causalml's Qini, which is 0 for a random ranking; arguments, errors and None as of `auuc_score`."""
    return _score(QINI, score_N, treated_N, y_N, normalise=normalise)


def _score(
    measure: Measure, score_N: NDArray[Any], treated_N: NDArray[Any], y_N: NDArray[Any], *, normalise: bool
) -> float | None:
    _check(score_N, treated_N, y_N)
    treated_N = treated_N.astype(bool, copy=False)
    if treated_N.all() or not treated_N.any():  # no rows are both
        return None
    area, end = _area_and_end(measure, _tops(score_N, treated_N, y_N))
    if normalise and end == 0:
        return None
    value = (area + end / 2) / (len(y_N) + 1) - measure.chance * end
    return value / abs(end) if normalise else value


def _check(score_N: NDArray[Any], treated_N: NDArray[Any], y_N: NDArray[Any]) -> None:
    shapes = {"score": score_N.shape, "treated": treated_N.shape, "y": y_N.shape}
    if score_N.ndim != 1 or len(set(shapes.values())) > 1:
        raise ConfigError(f"score, treated and y need one value a row each, not shapes {shapes}")
    if np.isnan(score_N).any():
        raise ConfigError(f"score[{np.isnan(score_N).argmax()}] is NaN: give every row a score or leave it out")
    if treated_N.dtype != bool and ((treated_N != 0) & (treated_N != 1)).any():
        row = int(((treated_N != 0) & (treated_N != 1)).argmax())
        raise ConfigError(f"treated[{row}] = {treated_N[row]} is neither 0 nor 1")
    if not np.isfinite(y_N).all():
        row = int(np.isfinite(y_N).argmin())
        raise ConfigError(f"y[{row}] = {y_N[row]} is not finite: give every row an outcome or leave it out")


def _tops(score_N: NDArray[Any], treated_N: NDArray[Any], y_N: NDArray[Any]) -> Iterator[Tops]:
    """Every top that ends with a group of equal scores, some at a time."""
    order_N = np.argsort(score_N)[::-1]
    n1, y1, y0 = 0, 0.0, 0.0
    for start in range(0, len(order_N), _BLOCK):
        row_X = order_N[start : start + _BLOCK + 1]  # and the next block's first, which may be of the last group
        row_B = row_X[:_BLOCK]
        score_X, treated_B, y_B = score_N[row_X], treated_N[row_B], y_N[row_B].astype(np.float64, copy=False)
        last_B = np.ones(len(row_B), dtype=bool)
        np.not_equal(score_X[1:], score_X[:-1], out=last_B[: len(row_X) - 1])
        n1_B = n1 + np.cumsum(treated_B)
        y1_B = y1 + np.cumsum(y_B * treated_B)
        y0_B = y0 + np.cumsum(y_B * ~treated_B)
        n1, y1, y0 = n1_B[-1], y1_B[-1], y0_B[-1]
        end_G = np.flatnonzero(last_B)
        rows_G, n1_G = (start + 1 + end_G).astype(np.float64), n1_B[end_G]
        yield Tops(rows_G=rows_G, n1_G=n1_G, n0_G=rows_G - n1_G, y1_G=y1_B[end_G], y0_G=y0_B[end_G])


def _area_and_end(measure: Measure, tops: Iterable[Tops]) -> tuple[float, float]:
    """Area under the curve of straight pieces between tops, from (0, 0), and its last height."""
    area, row, height, defined = 0.0, 0.0, 0.0, False
    for top in tops:
        if not defined:
            m = int(measure.least(top).searchsorted(1))
            head_G = np.append(row, top.rows_G[: m + 1])
            area += np.trapezoid(head_G**measure.power, head_G)
            row, defined = head_G[-1], m < len(top.rows_G)
            if not defined:
                continue
            top = top.since(m)
            height = measure.height(top)[0]
            area *= height / row**measure.power
        row_G, height_G = np.append(row, top.rows_G), np.append(height, measure.height(top))
        area += np.trapezoid(height_G, row_G)
        row, height = row_G[-1], height_G[-1]
    return float(area), float(height)
