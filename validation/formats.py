"""Numbers as the report shows them: few digits, a real minus sign, a dash where there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NONE = "–"
PER_THOUSAND = 1000.0
"""Uplifts are uploads per touch, far below 1: they read better per thousand touches."""


def number(value: Any, digits: int = 3) -> str:
    """`digits` significant digits (below 1: decimals; below .01: two digits), thousands separated; integers in full."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: NONE}[value]
    if not isinstance(value, (int, float)):
        return str(value)
    if not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 100):
        return _minus(f"{value:,.0f}")
    size = abs(value)
    magnitude = math.floor(math.log10(size))
    decimals = 1 - magnitude if size < 0.01 else digits if size < 1 else max(digits - 1 - magnitude, 0)
    if decimals > 6:
        return _minus(f"{value:.{digits - 1}e}")
    return _minus(f"{value:,.{decimals}f}")


def percent(value: Any, decimals: int = 1) -> str:
    """A share as a percentage."""
    return NONE if _absent(value) else _minus(f"{100 * value:.{decimals}f}%")


def uplift(value: Any) -> str:
    """Uploads per touch as uploads per thousand touches, with its sign."""
    if _absent(value):
        return NONE
    shown = number(PER_THOUSAND * float(value))
    return f"+{shown}" if value > 0 else shown


def interval(row: Mapping[str, Any]) -> str:
    """The row's [low, high], per thousand touches."""
    low, high = row.get("low"), row.get("high")
    return "" if _absent(low) or _absent(high) or low == high else f"{uplift(low)} to {uplift(high)}"


def words(name: str) -> str:
    """A metric's or column's name as words."""
    return name.replace("_", " ")


def _absent(value: Any) -> bool:
    return not isinstance(value, (int, float)) or not math.isfinite(value)


def _minus(text: str) -> str:
    return text.replace("-", "−", 1) if text.startswith("-") else text
