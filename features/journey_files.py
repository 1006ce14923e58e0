"""The tables of a journeys folder, each in parts: touches, journeys and judge (the judge's exposures).

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
_PARTS = "part-*.parquet"


def part_file(table: str, number: int) -> str:
    """Where a part lies in the journeys folder."""
    return f"{table}/part-{number:05d}.parquet"


def part_glob(journeys_dir: Path, table: str) -> Path:
    """All parts of a table, for readers that need no order."""
    return journeys_dir / table / _PARTS


def touch_files(journeys_dir: Path) -> list[Path]:
    """The touches' parts in order. Raises AlmMtaError where there are none."""
    files = sorted((journeys_dir / "touches").glob(_PARTS))
    if not files:
        raise AlmMtaError(f"{journeys_dir / 'touches'} holds no part of the touch table: build the journeys again")
    return files


def positioned_touches(connection: duckdb.DuckDBPyConnection, journeys_dir: Path) -> duckdb.DuckDBPyRelation:
    """The touch table with its column `position`."""
    files = touch_files(journeys_dir)
    rows = (pq.read_metadata(file).num_rows for file in files)
    first = list(accumulate(rows, initial=0))
    return connection.read_parquet([str(file) for file in files], file_row_number=True).project(
        f"* EXCLUDE file_row_number, file_row_number + {by_file(first)} AS position"
    )
