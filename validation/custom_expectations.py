"""Expectations that Great Expectations lacks; each is one aggregate in DuckDB, whatever the number of rows.

    top share   max_v n_v / Σ_v n_v                                     one value dominates a column
    drift       PSI = Σ_b (p_b − q_b) log(p_b / q_b)                    p an earlier histogram, q that of the column now
    overlap     min_k Σ_s n_s [ε ≤ P(k | s) ≤ 1 − ε] / Σ_s n_s          positivity of treatments k in strata s of rows
    recent      Σ label of the last days / (their rows · rate before)   labels that have not arrived yet

References: Yurdakul & Naranjo (2020), J. Risk Model Validation 14(4), for PSI; Petersen et al. (2012), Stat. Methods
Med. Res. 21(1), for positivity.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

import sqlalchemy as sa
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.expectation import ColumnAggregateExpectation
from great_expectations.expectations.metrics.column_aggregate_metric_provider import ColumnAggregateMetricProvider
from great_expectations.expectations.metrics.metric_provider import metric_value

from validation.falsification.drift import psi

LEAST_LABELS = 20
"""Recent labels to be expected before their absence means anything."""


class _Metric(ColumnAggregateMetricProvider):
    """A metric of one query; Great Expectations calls it by the names of its arguments."""

    @metric_value(engine=SqlAlchemyExecutionEngine)
    def _sqlalchemy(
        cls: Any,  # noqa: N805 -- the class, passed by this name
        execution_engine: Any,
        metric_domain_kwargs: Any,
        metric_value_kwargs: Any,
        **_: Any,
    ) -> Any:
        table, _domain, accessor = execution_engine.get_compute_domain(metric_domain_kwargs, MetricDomainTypes.COLUMN)
        query = cls.query(table, sa.column(accessor["column"]), **metric_value_kwargs)
        return cls.value(execution_engine.execute_query(query).fetchall())

    @staticmethod
    @abstractmethod
    def query(table: Any, column: Any, **values: Any) -> Any:
        """What to ask of `table`."""

    @staticmethod
    def value(rows: Sequence[Any]) -> Any:
        """The metric, of the query's rows; unless overridden their only number."""
        return None if rows[0][0] is None else float(rows[0][0])


class _TopShare(_Metric):
    metric_name = "column.top_share"

    @staticmethod
    def query(table: Any, column: Any) -> sa.Select[Any]:  # type: ignore[override]
        known = sa.select(sa.func.count().label("n")).select_from(table).where(column.is_not(None))
        counts = known.group_by(column).subquery()
        return sa.select(sa.cast(sa.func.max(counts.c.n), sa.Double) / sa.func.sum(counts.c.n))


class _Histogram(_Metric):
    """Counts of values up to each edge, above the last, and null; or of each of `values`, any other, and null."""

    metric_name = "column.counts"
    value_keys = ("edges", "values")

    @staticmethod
    def query(table: Any, column: Any, edges: Any, values: Any) -> Any:  # type: ignore[override]
        if values is not None:
            bins, places = len(values), {value: place for place, value in enumerate(values)}
            position: Any = sa.case(places, value=column, else_=bins)
        else:
            number = sa.cast(column, sa.Double)
            bins, position = len(edges), sum((sa.case((number > edge, 1), else_=0) for edge in edges), sa.literal(0))
        place = sa.case((column.is_(None), bins + 1), else_=position).label("place")
        placed = sa.select(place).select_from(table).subquery()
        last = sa.select(sa.literal(bins + 1), sa.literal(0))
        return sa.select(placed.c.place, sa.func.count()).group_by(placed.c.place).union_all(last)

    @staticmethod
    def value(rows: Sequence[Any]) -> list[int]:
        counts = [0] * (max(int(place) for place, _ in rows) + 1)
        for place, count in rows:
            counts[int(place)] += int(count)
        return counts


class _Overlap(_Metric):
    metric_name = "column.overlap"
    value_keys = ("treated", "rows", "least")

    @staticmethod
    def query(table: Any, column: Any, treated: str, rows: str, least: float) -> sa.Select[Any]:  # type: ignore[override]
        n: Any = sa.column(rows)
        propensity = sa.cast(sa.column(treated), sa.Double) / n
        seen = sa.func.sum(sa.case((propensity.between(least, 1 - least), n), else_=0))
        shares = sa.select((sa.cast(seen, sa.Double) / sa.func.sum(n)).label("share")).select_from(table)
        return sa.select(sa.func.min(shares.group_by(column).subquery().c.share))


class _Recent(_Metric):
    metric_name = "column.recent"
    value_keys = ("time", "days")

    @staticmethod
    def query(table: Any, column: Any, time: str, days: int) -> sa.Select[Any]:  # type: ignore[override]
        last = sa.select(sa.func.max(sa.column(time))).select_from(table).scalar_subquery()
        recent = sa.column(time) > last - timedelta(days=days)
        before = sa.func.avg(column).filter(sa.not_(recent))
        observed, expected = sa.func.sum(column).filter(recent), sa.func.count(column).filter(recent) * before
        return sa.select(observed, expected).select_from(table)

    @staticmethod
    def value(rows: Sequence[Any]) -> float | None:
        observed, expected = rows[0]
        return float(observed) / float(expected) if expected and expected >= LEAST_LABELS else None


class _Between(ColumnAggregateExpectation):
    """The one metric lies in [min_value, max_value]; None: no bound."""

    min_value: float | None = None
    max_value: float | None = None
    success_keys: ClassVar[tuple[str, ...]] = ("min_value", "max_value")

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: Any = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        (name,) = self.metric_dependencies
        result: dict[str, Any] = self._validate_metric_value_between(
            metric_name=name, metrics=metrics, runtime_configuration=runtime_configuration,
            execution_engine=execution_engine,
        )  # fmt: skip
        return result


class ExpectColumnTopShareToBeBetween(_Between):
    """The share of the most frequent value among those that are not null."""

    metric_dependencies: ClassVar[tuple[str, ...]] = ("column.top_share",)


class ExpectColumnDriftToBeBetween(_Between):
    """PSI of the column's histogram against `counts`, over the bins of `edges` or `values` (`_Histogram`)."""

    counts: list[int]
    edges: list[float] | None = None
    values: list[int] | None = None
    metric_dependencies: ClassVar[tuple[str, ...]] = ("column.counts",)
    success_keys: ClassVar[tuple[str, ...]] = (*_Between.success_keys, "counts", "edges", "values")

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: Any = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        drifted = {"column.counts": psi(self.counts, metrics["column.counts"])}
        return super()._validate(drifted, runtime_configuration, execution_engine)


class ExpectColumnOverlapToBeBetween(_Between):
    """Of every treatment in the column, the rows whose stratum has it with a probability from `least` to 1 - `least`.

    A row of the table is a treatment in a stratum: `rows` in the stratum, `treated` of them treated. The least
    treatment's share counts.
    """

    treated: str
    rows: str
    least: float
    metric_dependencies: ClassVar[tuple[str, ...]] = ("column.overlap",)
    success_keys: ClassVar[tuple[str, ...]] = (*_Between.success_keys, "treated", "rows", "least")


class ExpectColumnRecentRateToBeBetween(_Between):
    """The column's mean over the last `days` of `time`, as a multiple of its mean before.

    Holds where fewer than LEAST_LABELS are to be expected: their absence then means nothing.
    """

    time: str
    days: int
    metric_dependencies: ClassVar[tuple[str, ...]] = ("column.recent",)
    success_keys: ClassVar[tuple[str, ...]] = (*_Between.success_keys, "time", "days")

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: Any = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        if metrics["column.recent"] is None:
            return {"success": True, "result": {"observed_value": "too few labels to tell"}}
        return super()._validate(metrics, runtime_configuration, execution_engine)
