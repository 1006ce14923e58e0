"""The expectations that Great Expectations lacks, on tables small enough to reckon by hand."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest
from great_expectations.expectations.expectation import Expectation

from validation.expectations import labels_arrived, overlap, steady, top_share
from validation.gx_duckdb import Suite, SuiteResult, run_suites


def check(tmp_path: Path, sql: str, *expectations: Expectation) -> SuiteResult:
    """The suite's result on the table that `sql` makes."""

    def create(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(f"CREATE TABLE seen AS {sql}")

    suite = Suite(name="seen", expectations=expectations)
    (result,) = run_suites("test", (suite,), create, as_of=datetime(2024, 1, 1), docs=tmp_path / "docs")
    return result


def observed(result: SuiteResult) -> list[float]:
    """What was observed, of the findings in order."""
    return [float(finding.observed) for finding in result.findings]


def test_top_share(tmp_path: Path) -> None:
    """Of 4 values that are known, 3 are the same; nulls are none."""
    sql = "SELECT unnest([1, 1, 1, 2, NULL, NULL]) AS c"
    result = check(tmp_path, sql, top_share("c", 0.5, what="cluster"), top_share("c", 0.75, what="cluster"))
    assert observed(result) == [0.75]


def test_drift_of_a_number(tmp_path: Path) -> None:
    """Bins ]..0], ]0..1], ]1..[, null: now 1, 1, 1 and 1 of 4, then 2, 1, 1 and 4 of 8."""
    sql = "SELECT unnest([0.0, 1.0, 1.5, NULL]) AS x"
    p, q = np.array([2, 1, 1, 4]) / 8, np.array([1, 1, 1, 1]) / 4
    expected = float(((p - q) * np.log(p / q)).sum())
    result = check(tmp_path, sql, steady("x", [2, 1, 1, 4], 0.1, edges=[0.0, 1.0]))
    assert observed(result) == [pytest.approx(expected, rel=1e-5)]
    assert not check(tmp_path, sql, steady("x", [3, 3, 3, 3], 0.001, edges=[0.0, 1.0])).findings


def test_drift_of_a_category(tmp_path: Path) -> None:
    """Categories 7 and 5, any other, null: as often as then, in whatever order the rows come."""

    def drifts(categories: str) -> bool:
        sql = f"SELECT unnest({categories}) AS c FROM range(100)"
        return bool(check(tmp_path, sql, steady("c", [20, 10, 10, 0], 0.2, values=[7, 5])).findings)

    assert not drifts("[5, 7, 7, 9]")
    assert drifts("[5, 5, 7, 9]")


def test_overlap(tmp_path: Path) -> None:
    """Cluster 1 is had by half of both strata; cluster 2 by nobody of the smaller one, a fifth of the journeys."""
    sql = """SELECT * FROM (VALUES (1, 0, 40, 80), (1, 1, 10, 20), (2, 0, 40, 80), (2, 1, 0, 20))
             AS t (cluster_id, stratum, treated, journeys)"""
    result = check(tmp_path, sql, overlap("cluster_id", 0.9, 0.005), overlap("cluster_id", 0.8, 0.005))
    assert observed(result) == [0.8]


def test_labels_that_have_not_arrived(tmp_path: Path) -> None:
    """One in ten of 900 journeys before, then 1 of 300: 30 were to be expected. Of 100, 10, too few to tell."""

    def sql(recent: int) -> str:
        return f"""SELECT CAST(i % 10 = 0 AS INT) AS label, TIMESTAMP '2024-01-01' AS t_obs FROM range(900) r(i)
                   UNION ALL SELECT CAST(i = 0 AS INT), TIMESTAMP '2024-01-09' FROM range({recent}) r(i)"""

    def result(recent: int) -> SuiteResult:
        return check(tmp_path, sql(recent), labels_arrived("label", "t_obs", 2, 0.5))

    assert observed(result(300)) == [pytest.approx(1 / 30, rel=1e-4)]
    assert not result(100).findings
