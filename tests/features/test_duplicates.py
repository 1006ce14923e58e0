"""Repeated keys are counted right however many hashes are sorted at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import duplicates
from features.duck import session
from features.duplicates import repeated


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with session(scratch=tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("at_once", [1, 3, 1_000])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(keys=st.lists(st.tuples(st.integers(0, 5), st.text("ab", max_size=2) | st.none()), max_size=40))
def test_the_rows_beyond_the_first_of_their_key(
    connection: duckdb.DuckDBPyConnection, at_once: int, keys: list[tuple[int, str | None]]
) -> None:
    connection.execute('CREATE OR REPLACE TABLE "a table" ("the user" BIGINT, item VARCHAR)')
    if keys:
        connection.executemany('INSERT INTO "a table" VALUES (?, ?)', keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "HASHES", at_once)
        assert repeated(connection, "a table", ("the user", "item")) == len(keys) - len(set(keys))
        assert repeated(connection, "a table", ("the user",)) == len(keys) - len({user for user, _ in keys})


def test_unlike_keys_of_one_hash_are_not_repeated(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE MACRO hash(a) AS 7::UBIGINT")
    connection.execute("CREATE TABLE t AS SELECT i FROM range(100) r(i)")
    assert repeated(connection, "t", ("i",)) == 0


def test_nothing_is_left_on_disk(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(duplicates, "HASHES", 10)
    connection.execute("CREATE TABLE t AS SELECT i // 2 AS i FROM range(1000) r(i)")
    assert repeated(connection, "t", ("i",)) == 500
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
