"""The vocabulary of the suites: a dozen words for the Great Expectations classes in use.

GX's pages show no severity, so it stands behind each meaning. GX passes an empty table: every suite says `has_rows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

from validation.gx_duckdb import Severity, describe

Bound = float | datetime | None


def has_rows(severity: Severity = "critical", *, meaning: str = "the table has rows") -> Expectation:
    """The table has at least one row."""
    return _expect("ExpectTableRowCountToBeBetween", severity, meaning, min_value=1)


def not_null(column: str, severity: Severity = "critical") -> Expectation:
    """`column` is never null."""
    return _expect("ExpectColumnValuesToNotBeNull", severity, f"{column} is never null", column=column)


def mostly_present(column: str, null_share: float) -> Expectation:
    """`column` is null in at most `null_share` of the rows; a warning."""
    meaning = f"{column} is null in at most {null_share:.0%} of rows"
    return _expect("ExpectColumnValuesToNotBeNull", "warning", meaning, column=column, mostly=1 - null_share)


def unique(columns: Sequence[str], severity: Severity = "critical") -> Expectation:
    """The values of `columns`, together, occur once."""
    if len(columns) == 1:
        meaning = f"{columns[0]} is unique"
        return _expect("ExpectColumnValuesToBeUnique", severity, meaning, column=columns[0])
    meaning = f"({', '.join(columns)}) is unique"
    return _expect("ExpectCompoundColumnsToBeUnique", severity, meaning, column_list=list(columns))


def between(
    column: str,
    low: Bound,
    high: Bound,
    severity: Severity = "critical",
    *,
    meaning: str,
    strict_low: bool = False,
) -> Expectation:
    """Every value of `column` that is not null lies in [low, high] (None: no bound); NaN lies above any."""
    bounds = {"min_value": low, "max_value": high, "strict_min": strict_low}
    return _expect("ExpectColumnValuesToBeBetween", severity, meaning, column=column, **bounds)


def among(column: str, values: Iterable[Any], severity: Severity = "critical", *, meaning: str) -> Expectation:
    """Every value of `column` that is not null is one of `values`."""
    return _expect("ExpectColumnValuesToBeInSet", severity, meaning, column=column, value_set=list(values))


def fact(column: str, low: float | None, high: float | None, severity: Severity, *, meaning: str) -> Expectation:
    """The figure `column` of a one-row table lies in [low, high]; it shows in the docs whether or not it does."""
    bounds = {"min_value": low, "max_value": high}
    return _expect("ExpectColumnMaxToBeBetween", severity, meaning, column=column, **bounds)


def _expect(kind: str, severity: Severity, meaning: str, **arguments: Any) -> Expectation:
    expectation: Expectation = getattr(gxe, kind)(
        severity=severity, description=describe(meaning, severity), **arguments
    )
    return expectation
