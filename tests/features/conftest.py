"""Tiny hand-written logs, as Arrow tables that a test may alter before they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Tables = dict[str, pa.Table]
START = datetime(2024, 3, 1, 12)
TIME = pa.timestamp("us")


def hours(*values: float) -> list[datetime]:
    """Moments so many hours after START."""
    return [START + timedelta(hours=value) for value in values]


@pytest.fixture
def tables() -> Tables:
    """Two users, three items, 45 days. User 1 uploads half an hour after a session of two touches."""
    return {
        "touchpoints": pa.table(
            {
                "user_id": pa.array([1, 1, 1, 2, 2], pa.int64()),
                "item_id": pa.array([10, 11, 12, 10, 12], pa.int64()),
                "author_id": pa.array([100, 100, 101, 100, 101], pa.int64()),
                "cluster_id": pa.array([0, 0, 1, 0, 1], pa.int32()),
                "ts": pa.array(hours(0, 0.25, 48, 5, 45 * 24), TIME),
                "watch_ratio": pa.array([0.5, 1.0, None, 0.0, 0.25], pa.float32()),
                "liked": pa.array([True, False, None, False, True]),
            }
        ),
        "uploads": pa.table(
            {
                "user_id": pa.array([1, 2], pa.int64()),
                "upload_id": pa.array([7, 8], pa.int64()),
                "ts": pa.array(hours(0.75, 30), TIME),
                "embedding": pa.array([[1.0, 0.0], None], pa.list_(pa.float32())),
            }
        ),
        "items": pa.table(
            {
                "item_id": pa.array([10, 11, 12], pa.int64()),
                "author_id": pa.array([100, 100, 101], pa.int64()),
                "cluster_id": pa.array([0, 0, 1], pa.int32()),
                "embedding": pa.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], pa.list_(pa.float32())),
                "published_ts": pa.array(hours(-48, -24, -24), TIME),
            }
        ),
        "users": pa.table(
            {
                "user_id": pa.array([1, 1], pa.int64()),
                "event_timestamp": pa.array(hours(-100, 1), TIME),
                "age": pa.array([30, 31], pa.int32()),
                "city": ["Oslo", "Rome"],
                "pro": [True, False],
            }
        ),
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """write(tables, name='logs') writes a folder of logs, one file a table, and returns it."""

    def write_logs(tables: Mapping[str, pa.Table], name: str = "logs") -> Path:
        for table, content in tables.items():
            folder = tmp_path / name / table
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(content, folder / "part-0.parquet")
        return tmp_path / name

    return write_logs
