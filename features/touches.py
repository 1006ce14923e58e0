"""The touch table of a journeys folder: sorted by (user_id, ts, item_id), in parts; a row's number is its position."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from features.duck import by_file
from features.errors import AlmMtaError


def touch_part(number: int) -> str:
    """Where a part lies in the journeys folder."""
    return f"touches/part-{number:05d}.parquet"


def touch_files(journeys_dir: Path) -> list[Path]:
    """The parts in order. Raises AlmMtaError where there are none."""
    files = sorted(journeys_dir.glob("touches/part-*.parquet"))
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
