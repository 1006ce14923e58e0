"""The vocabulary of the suites: a dozen words for the Great Expectations classes in use
(its own, and those of `validation.custom_expectations`).

GX's pages show no severity, so it stands behind each meaning. GX passes an empty table: every suite says `has_rows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity

from validation.custom_expectations import (
    ExpectColumnDriftToBeBetween,
    ExpectColumnOverlapToBeBetween,
    ExpectColumnRecentRateToBeBetween,
    ExpectColumnTopShareToBeBetween,
)
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


def unique(column: str, key: Sequence[str], *, of: str) -> Expectation:
    """The figure `column` of a one-row table, the rows of `of` that repeat another's `key`, is 0."""
    return fact(column, 0, 0, "critical", meaning=f"no two {of} share their ({', '.join(key)})")


def top_share(column: str, limit: float, *, what: str) -> Expectation:
    """No value of `column` has more than `limit` of the rows; a warning."""
    meaning = f"no {what} has more than {limit:.0%} of the touches"
    return _described(ExpectColumnTopShareToBeBetween, "warning", meaning, column=column, max_value=limit)


def steady(
    column: str, counts: Sequence[int], limit: float, *, edges: Sequence[float] | None = None,
    values: Sequence[int] | None = None,
) -> Expectation:  # fmt: skip
    """The histogram of `column` is within a PSI of `limit` of `counts`, which the champion was fitted on; a warning."""
    meaning = f"{column} is distributed as when the champion was fitted (population stability index up to {limit:g})"
    bins = {"edges": edges and list(edges), "values": values and list(values)}
    return _described(
        ExpectColumnDriftToBeBetween, "warning", meaning, column=column, counts=list(counts), max_value=limit, **bins
    )


def overlap(column: str, share: float, least: float) -> Expectation:
    """`share` of the journeys are like others with, and others without, any value of `column`; a warning."""
    meaning = f"{share:.0%} of journeys have been seen with and without each cluster ({least:.1%} of their like)"
    return _described(
        ExpectColumnOverlapToBeBetween, "warning", meaning,
        column=column, treated="treated", rows="journeys", least=least, min_value=share,
    )  # fmt: skip


def labels_arrived(column: str, time: str, days: int, share: float) -> Expectation:
    """The last `days` of `time` have labels at no less than `share` of the rate before; a warning."""
    meaning = f"uploads of the last {days} days have arrived: at least {share:.0%} of their rate before"
    return _described(
        ExpectColumnRecentRateToBeBetween, "warning", meaning, column=column, time=time, days=days, min_value=share
    )


def _expect(kind: str, severity: Severity, meaning: str, **arguments: Any) -> Expectation:
    return _described(getattr(gxe, kind), severity, meaning, **arguments)


def _described(kind: type[Expectation], severity: Severity, meaning: str, **arguments: Any) -> Expectation:
    return kind(severity=FailureSeverity(severity), description=describe(meaning, severity), **arguments)
