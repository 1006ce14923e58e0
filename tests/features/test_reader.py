"""The reader accepts logs that keep the contract, and refuses each kind of breach by table, column, example."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.duck import session
from features.errors import BadLogsError, ConfigError
from features.reader import open_logs

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def put(table: str, column: str, row: int, value: Any) -> Callable[[dict[str, pa.Table]], None]:
    """Set one cell."""

    def alter(tables: dict[str, pa.Table]) -> None:
        content = tables[table]
        values = content[column].to_pylist()
        values[row] = value
        position = content.column_names.index(column)
        array = pa.array(values, content.schema.field(column).type)
        tables[table] = content.set_column(position, column, array)

    return alter


def retype(table: str, column: str, values: pa.Array) -> Callable[[dict[str, pa.Table]], None]:
    """Replace a whole column."""

    def alter(tables: dict[str, pa.Table]) -> None:
        position = tables[table].column_names.index(column)
        tables[table] = tables[table].set_column(position, column, values)

    return alter


def repeat_row(table: str, row: int) -> Callable[[dict[str, pa.Table]], None]:
    def alter(tables: dict[str, pa.Table]) -> None:
        tables[table] = pa.concat_tables([tables[table], tables[table].slice(row, 1)])

    return alter


def drop(table: str, column: str) -> Callable[[dict[str, pa.Table]], None]:
    def alter(tables: dict[str, pa.Table]) -> None:
        tables[table] = tables[table].drop_columns([column])

    return alter


def clear(table: str) -> Callable[[dict[str, pa.Table]], None]:
    def alter(tables: dict[str, pa.Table]) -> None:
        tables[table] = tables[table].slice(0, 0)

    return alter


FLOATS = pa.list_(pa.float32())
FUTURE, ABSURD = datetime(2024, 6, 2), datetime(1970, 1, 20)
# id, alteration, table, column, what the message says, the example's text, offending rows
CASES = [
    ("missing column", drop("touchpoints", "author_id"), "touchpoints", "author_id", "missing", "user_id", None),
    ("text ids", retype("uploads", "user_id", pa.array(["a", "b"])), "uploads", "user_id", "wrong type VARCHAR",
     "user_id", None),
    ("number as time", retype("uploads", "ts", pa.array([1.5, 2.5])), "uploads", "ts", "wrong type DOUBLE", "ts",
     None),
    ("id too large", retype("items", "cluster_id", pa.array([0, 0, 2**40])), "items", "cluster_id",
     "wrong type: BIGINT", str(2**40), 1),
    ("nanoseconds", retype("uploads", "ts", pa.array([1709294400000000001] * 2, pa.timestamp("ns"))), "uploads",
     "ts", "wrong type: TIMESTAMP_NS", "upload_id=7", 2),
    ("nested profile", retype("users", "age", pa.array([[1], [2]])), "users", "age", "wrong type", "age", None),
    ("null key", put("touchpoints", "item_id", 1, None), "touchpoints", "item_id", "null key", "user_id=1", 1),
    ("null author", put("items", "author_id", 2, None), "items", "author_id", "null", "item_id=12", 1),
    ("null upload", put("uploads", "upload_id", 0, None), "uploads", "upload_id", "null key", "upload_id=None", 1),
    ("duplicate touch", repeat_row("touchpoints", 3), "touchpoints", "user_id, item_id, ts", "duplicate key",
     "user_id=2, item_id=10", 1),
    ("duplicate upload", repeat_row("uploads", 1), "uploads", "upload_id", "duplicate key", "upload_id=8", 1),
    ("duplicate item", repeat_row("items", 0), "items", "item_id", "duplicate key", "item_id=10", 1),
    ("duplicate profile", repeat_row("users", 0), "users", "user_id, event_timestamp", "duplicate key",
     "user_id=1", 1),
    ("future touch", put("touchpoints", "ts", 4, FUTURE), "touchpoints", "ts", "future", "2024-06-02", 1),
    ("absurd upload", put("uploads", "ts", 0, ABSURD), "uploads", "ts", "absurd", "1970-01-20", 1),
    ("future profile", put("users", "event_timestamp", 0, FUTURE), "users", "event_timestamp", "future",
     "user_id=1", 1),
    ("absurd publication", put("items", "published_ts", 1, ABSURD), "items", "published_ts", "absurd",
     "item_id=11", 1),
    ("watch above 1", put("touchpoints", "watch_ratio", 0, 1.5), "touchpoints", "watch_ratio", "outside its range",
     "watch_ratio=1.5", 1),
    ("watch below 0", put("touchpoints", "watch_ratio", 0, -0.5), "touchpoints", "watch_ratio",
     "outside its range", "watch_ratio=-0.5", 1),
    ("watch NaN", put("touchpoints", "watch_ratio", 3, float("nan")), "touchpoints", "watch_ratio",
     "outside its range", "watch_ratio=nan", 1),
    ("watch inf", put("touchpoints", "watch_ratio", 3, float("inf")), "touchpoints", "watch_ratio",
     "outside its range", "watch_ratio=inf", 1),
    ("flag of 2", retype("touchpoints", "liked", pa.array([0, 1, None, 2, 1], pa.int8())), "touchpoints", "liked",
     "outside its range", "liked=2", 1),
    ("infinite profile", retype("users", "age", pa.array([float("nan"), float("-inf")])), "users", "age", "infinite",
     "age=-inf", 1),
    ("NaN embedding", put("items", "embedding", 1, [float("nan"), 0.0]), "items", "embedding", "non-finite",
     "item_id=11", 1),
    ("infinite embedding", put("uploads", "embedding", 0, [float("inf"), float("-inf")]), "uploads", "embedding",
     "non-finite", "upload_id=7", 1),
    ("hole in embedding", put("items", "embedding", 1, [None, 0.0]), "items", "embedding", "non-finite",
     "item_id=11", 1),
    ("ragged embedding", put("items", "embedding", 2, [0.0, 1.0, 2.0]), "items", "embedding",
     "wrong embedding dimension", "item_id=12, dimension=3", 1),
    ("two spaces", retype("uploads", "embedding", pa.array([[1.0, 0.0, 0.0], None], FLOATS)), "uploads",
     "embedding", "wrong embedding dimension: 3, but items/ has 2", "upload_id=7, dimension=3", 1),
    ("unknown item", put("touchpoints", "item_id", 3, 99), "touchpoints", "item_id", "unknown",
     "user_id=2, item_id=99", 1),
    ("empty touches", clear("touchpoints"), "touchpoints", None, "empty table", "", 0),
    ("empty items", clear("items"), "items", None, "empty table", "", 0),
    ("empty uploads", clear("uploads"), "uploads", None, "empty table", "", 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("alter", "table", "column", "problem", "example", "rows"),
    [pytest.param(*case[1:], id=case[0]) for case in CASES],
)
def test_refuses(
    tables: dict[str, pa.Table],
    write: Callable[..., Path],
    alter: Callable[[dict[str, pa.Table]], None],
    table: str,
    column: str | None,
    problem: str,
    example: str,
    rows: int | None,
) -> None:
    alter(tables)
    with pytest.raises(BadLogsError) as refused:
        open_logs(write(tables), now=NOW)
    error = refused.value
    assert (error.table, error.column, error.rows) == (table, column, rows)
    assert problem in error.problem
    for part in (table, column or "", example):
        assert part in str(error)


def test_refuses_a_missing_table(tables: dict[str, pa.Table], write: Callable[..., Path]) -> None:
    del tables["uploads"]
    with pytest.raises(BadLogsError, match="table 'uploads': missing table"):
        open_logs(write(tables), now=NOW)


def test_refuses_a_folder_without_files(tables: dict[str, pa.Table], write: Callable[..., Path]) -> None:
    root = write(tables)
    (root / "items" / "part-0.parquet").unlink()
    with pytest.raises(BadLogsError, match="table 'items': empty table"):
        open_logs(root, now=NOW)


@pytest.mark.parametrize("damage", ["truncated", "not parquet", "empty", "other suffix"])
def test_refuses_an_unreadable_file(tables: dict[str, pa.Table], write: Callable[..., Path], damage: str) -> None:
    root = write(tables)
    file = root / "uploads" / "part-1.parquet"
    whole = (root / "uploads" / "part-0.parquet").read_bytes()
    contents = {"truncated": whole[:-9], "not parquet": b"user_id,upload_id,ts\n1,2,3\n", "empty": b""}
    file.write_bytes(contents.get(damage, whole))
    if damage == "other suffix":
        file = file.rename(file.with_suffix(".csv"))
    with pytest.raises(BadLogsError, match=f"unreadable file {file.name}") as refused:
        open_logs(root, now=NOW)
    assert refused.value.table == "uploads"
    assert str(file) in str(refused.value)


def test_refuses_damaged_pages_behind_an_intact_footer(tables: dict[str, pa.Table], write: Callable[..., Path]) -> None:
    root = write(tables)
    file = root / "touchpoints" / "part-0.parquet"
    content = bytearray(file.read_bytes())
    content[4:200] = b"\xff" * 196
    file.write_bytes(content)
    with pytest.raises(BadLogsError, match=r"table 'touchpoints': unreadable file part-0\.parquet"):
        open_logs(root, now=NOW)


@pytest.mark.parametrize(
    ("second", "column", "example"),
    [
        (lambda t: t.drop_columns(["liked"]), "liked", "part-1.parquet does not"),
        (lambda t: t.drop_columns(["ts"]), "ts", "part-1.parquet does not"),
        (lambda t: t.set_column(0, "user_id", pa.array(["x"] * 5)), "user_id", "VARCHAR in part-1.parquet"),
    ],
    ids=["optional column", "required column", "other type"],
)
def test_refuses_conflicting_files(
    tables: dict[str, pa.Table],
    write: Callable[..., Path],
    second: Callable[[pa.Table], pa.Table],
    column: str,
    example: str,
) -> None:
    root = write(tables)
    pq.write_table(second(tables["touchpoints"]), root / "touchpoints" / "part-1.parquet")
    with pytest.raises(BadLogsError, match="conflicting schema between files") as refused:
        open_logs(root, now=NOW)
    assert (refused.value.table, refused.value.column) == ("touchpoints", column)
    assert example in str(refused.value)


def test_describes_good_logs(tables: dict[str, pa.Table], write: Callable[..., Path]) -> None:
    logs = open_logs(write(tables), now=NOW)
    assert logs.rows == {"touchpoints": 5, "uploads": 2, "items": 3, "users": 2}
    assert logs.responses == ("watch_ratio", "liked")
    assert logs.embedding_dim == 2
    assert (logs.has_items, logs.has_users, logs.has_item_embeddings, logs.has_upload_embeddings) == (True,) * 4
    assert not logs.has_randomised
    assert [(p.name, p.dtype) for p in logs.profile] == [("age", "BIGINT"), ("city", "VARCHAR"), ("pro", "BIGINT")]
    assert logs.earliest_ts == datetime(2024, 3, 1, 12)
    assert logs.latest_ts == datetime(2024, 4, 15, 12)


def test_optional_tables_may_be_absent(tables: dict[str, pa.Table], write: Callable[..., Path]) -> None:
    logs = open_logs(write({name: tables[name] for name in ("touchpoints", "uploads")}), now=NOW)
    assert (logs.has_items, logs.has_users, logs.profile) == (False, False, ())


def test_embeddings_that_are_all_null_are_none(tables: dict[str, pa.Table], write: Callable[..., Path]) -> None:
    retype("uploads", "embedding", pa.array([None, None], FLOATS))(tables)
    assert not open_logs(write(tables), now=NOW).has_upload_embeddings


def test_lossless_types_are_read_as_the_contract_s(tables: dict[str, pa.Table], write: Callable[..., Path]) -> None:
    touches = tables["touchpoints"]
    narrow = touches.cast(
        pa.schema(
            [
                ("user_id", pa.uint32()),
                ("item_id", pa.int16()),
                ("author_id", pa.int64()),
                ("cluster_id", pa.int64()),
                ("ts", pa.timestamp("ns", tz="Asia/Tokyo")),
                ("watch_ratio", pa.float64()),
                ("liked", pa.bool_()),
            ]
        )
    )
    plain = open_logs(write(tables, "plain"), now=NOW)
    cast = open_logs(write({**tables, "touchpoints": narrow}, "cast"), now=NOW)
    rows = []
    for logs in (plain, cast):
        with session() as connection:
            logs.register(connection)
            relation = connection.sql("SELECT * FROM touchpoints ORDER BY ALL")
            rows.append((relation.types, relation.fetchall()))
    assert rows[0] == rows[1]


def test_reads_partitions_by_day(tables: dict[str, pa.Table], write: Callable[..., Path]) -> None:
    root = write(tables)
    folder = root / "touchpoints"
    for i in range(2):
        day = folder / f"dt=2024-03-0{i + 1}"
        day.mkdir()
        pq.write_table(tables["touchpoints"].slice(3 * i, 3), day / "a.parquet")
    (folder / "part-0.parquet").unlink()
    (folder / "_SUCCESS").touch()
    assert open_logs(root, now=NOW).rows["touchpoints"] == 5
    (folder / "dt=yesterday").mkdir()
    with pytest.raises(BadLogsError, match="unexpected folder"):
        open_logs(root, now=NOW)


def test_mapping_adapts_names(tables: dict[str, pa.Table], write: Callable[..., Path]) -> None:
    tables["uploads"] = tables["uploads"].rename_columns(["uid", "upload_id", "posted at", "embedding"])
    root = write(tables)
    mapping = {"uploads": {"user_id": "uid", "ts": "posted at"}}
    with session() as connection:
        open_logs(root, mapping=mapping, now=NOW).register(connection)
        assert connection.sql("SELECT user_id, upload_id FROM uploads ORDER BY ALL").fetchall() == [(1, 7), (2, 8)]
    with pytest.raises(BadLogsError, match=r"table 'uploads', column 'user_id': missing column"):
        open_logs(root, now=NOW)
    with pytest.raises(ConfigError, match="no column 'uid' in table 'uploads'"):
        open_logs(root, mapping={"uploads": {"uid": "user_id"}}, now=NOW)
    with pytest.raises(ConfigError, match="no table 'upload'"):
        open_logs(root, mapping={"upload": {}}, now=NOW)


def test_a_mapped_column_stands_before_one_that_bears_its_name(
    tables: dict[str, pa.Table], write: Callable[..., Path]
) -> None:
    tables["users"] = tables["users"].append_column("uid", pa.array([5, 6], pa.int64()))
    logs = open_logs(write(tables), mapping={"users": {"user_id": "uid"}}, now=NOW)
    assert [column.name for column in logs.profile] == ["age", "city", "pro"]
    with session() as connection:
        logs.register(connection)
        assert connection.sql("SELECT user_id FROM users ORDER BY ALL").fetchall() == [(5,), (6,)]


def test_a_profile_that_is_not_a_number_is_missing(tables: dict[str, pa.Table], write: Callable[..., Path]) -> None:
    retype("users", "age", pa.array([float("nan"), 30.0]))(tables)
    assert open_logs(write(tables), now=NOW).rows["users"] == 2


def test_fingerprint_follows_the_data_and_not_the_place(
    tables: dict[str, pa.Table], write: Callable[..., Path]
) -> None:
    here, there = (open_logs(write(tables, name), now=NOW) for name in ("here", "there"))
    put("touchpoints", "ts", 0, datetime(2024, 3, 1, 12) + timedelta(microseconds=1))(tables)
    other = open_logs(write(tables, "other"), now=NOW)
    assert here.fingerprint == there.fingerprint
    assert here.fingerprint != other.fingerprint


def test_now_is_the_present_by_default(tables: dict[str, pa.Table], write: Callable[..., Path]) -> None:
    put("touchpoints", "ts", 4, datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1))(tables)
    with pytest.raises(BadLogsError, match="timestamp in the future"):
        open_logs(write(tables))
