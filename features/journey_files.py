"""Tables in parts: touches, journeys and judge (the judge's exposures) of a journeys folder, and the training table.

Parts lie in order of their names and are sorted by user_id, so one after the other they are the whole table in order.
A touch's position is its number in the whole; a journey names its touches by position (features/journeys.py).
"""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from features.duck import by_file
from features.errors import AlmMtaError

TABLES = ("touches", "journeys", "judge")
"""Of a journeys folder."""
TRAINING_TABLE = "training_table"
"""Of the folder of the training data."""
_PARTS = "part-*.parquet"


def part_file(table: str, number: int) -> str:
    """Where a part lies in the folder of its table's folder."""
    return f"{table}/part-{number:05d}.parquet"


def part_glob(folder: Path, table: str) -> Path:
    """All parts of a table, for readers that need no order."""
    return folder / table / _PARTS


def part_files(folder: Path, table: str) -> list[Path]:
    """A table's parts in order. Raises AlmMtaError where there are none."""
    files = sorted((folder / table).glob(_PARTS))
    if not files:
        raise AlmMtaError(f"{folder / table} holds no part-*.parquet: build it again")
    return files


def positioned_touches(connection: duckdb.DuckDBPyConnection, journeys_dir: Path) -> duckdb.DuckDBPyRelation:
    """The touch table with its column `position`."""
    files = part_files(journeys_dir, "touches")
    rows = (pq.read_metadata(file).num_rows for file in files)
    first = list(accumulate(rows, initial=0))
    return connection.read_parquet([str(file) for file in files], file_row_number=True).project(
        f"* EXCLUDE file_row_number, file_row_number + {by_file(first)} AS position"
    )
