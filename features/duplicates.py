"""Rows that share their key with another row: whole tables are looked through, in the memory of one part of them.

Keys are compared by their hashes of 64 bits, sorted: half the CPU of grouping by them, which outgrows the caches. Where
hashes repeat, nearly always because keys do, the keys themselves are counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from features.duck import fetch_one, quote

HASHES = 2**24
"""About as many are sorted at once, in 128 MiB; those of larger tables are cut into such parts first, on disk."""

Hashes = NDArray[np.uint64]


def repeated(connection: duckdb.DuckDBPyConnection, table: str, key: Sequence[str]) -> int:
    """How many rows of the table or view `table` repeat the key of another, the first of each not counted."""
    columns, name = ", ".join(map(quote, key)), quote(table)
    rows = int(fetch_one(connection, f"SELECT count(*) FROM {name}")[0])
    if not any(_repeats(hash_N) for hash_N in _hashes(connection, f"SELECT hash({columns}) AS h FROM {name}", rows)):
        return 0
    return rows - int(fetch_one(connection, f"SELECT count(*) FROM (SELECT DISTINCT {columns} FROM {name})")[0])


def _repeats(hash_N: Hashes) -> bool:
    hash_N.sort()
    return bool((hash_N[1:] == hash_N[:-1]).any())


def _in_one(batches: Iterator[Hashes], rows: int) -> Hashes:
    hash_N, start = np.empty(rows, np.uint64), 0
    for hash_B in batches:
        hash_N[start : start + len(hash_B)] = hash_B
        start += len(hash_B)
    return hash_N


def _hashes(connection: duckdb.DuckDBPyConnection, query: str, rows: int) -> Iterator[Hashes]:
    """The column h of the query in parts, equal ones in the same."""
    parts = -(-rows // HASHES)
    (spill,) = fetch_one(connection, "SELECT current_setting('temp_directory')")
    reader = connection.sql(query).to_arrow_reader(max(131_072, 256 * parts))
    batches = (np.asarray(np.from_dlpack(batch["h"]), np.uint64) for batch in reader)
    if parts <= 1:
        yield _in_one(batches, rows)
        return
    Path(spill).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hashes-", dir=spill) as folder:
        files = [Path(folder) / str(part) for part in range(parts)]
        bounds = [np.uint64(2**64 * part // parts) for part in range(1, parts)]
        for hash_B in map(np.sort, batches):
            for file, some in zip(files, np.split(hash_B, np.searchsorted(hash_B, bounds)), strict=True):
                with file.open("ab") as stream:  # opened each time: there may be more than may be open
                    some.tofile(stream)
        for file in files:
            yield np.fromfile(file, np.uint64)
