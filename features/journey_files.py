"""Tables in parts: touches, journeys and judge (the judge's exposures) of a journeys folder, and the training table.

Parts are numbered and sorted by user_id, so one after the other they are the whole table in order.
A touch's position is its number in the whole; a journey names its touches by position (features/journeys.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from features.duck import by_file, read_parquet
from features.errors import AlmMtaError

TABLES = ("touches", "journeys", "judge")
"""Of a journeys folder."""
TRAINING_TABLE = "training_table"
"""Of the folder of the training data."""


def part_file(table: str, number: int) -> str:
    """Where a part lies in the folder of its table's folder."""
    return f"{table}/part-{number:05d}.parquet"


def part_files(folder: Path, table: str) -> list[Path]:
    """A table's parts in order. Raises AlmMtaError where there are none."""
    files = (folder / table).glob("part-*.parquet")
    in_order = sorted(files, key=lambda file: (len(file.name), file.name))  # beyond 100,000 a number is longer
    if not in_order:
        raise AlmMtaError(f"{folder / table} holds no part-*.parquet: build it again")
    return in_order


def read_parts(folder: Path, table: str, columns: Sequence[str], **options: Any) -> pa.Table:
    """Columns of the whole table, in memory and in order. options: those of pyarrow.parquet.read_table."""
    return pq.read_table(part_files(folder, table), columns=list(columns), partitioning=None, **options)


def positioned_touches(connection: duckdb.DuckDBPyConnection, journeys_dir: Path) -> duckdb.DuckDBPyRelation:
    """The touch table with its column `position`."""
    files = part_files(journeys_dir, "touches")
    rows = (pq.read_metadata(file).num_rows for file in files)
    first = list(accumulate(rows, initial=0))
    return read_parquet(connection, files, file_row_number=True).project(
        f"* EXCLUDE file_row_number, file_row_number + {by_file(first)} AS position"
    )
