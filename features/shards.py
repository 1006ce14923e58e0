"""How a build over users is cut: shards are ranges of user_id that hold about as many touches each.

With N(u) the touches of users below u and n = ShardConfig.touches, user u belongs to shard ⌊N(u) / n⌋; where n is
large, N is that of a sample of users, by hash. Ranges, not hashes: the shards one after the other are the whole table
sorted by user, so what is built does not depend on how it was cut, nor on how many machines built it.

`exchange` brings every shard's rows together in one pass over the logs; without it each shard would read them all. It
writes them as Arrow streams, a file a shard and table, uncompressed: they are written once, mapped once, and then gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.duck import quote, session
from features.errors import ConfigError
from features.files import atomic_dir, read_json, write_json
from features.journeys_axis import Ints, take
from features.reader import Logs

logger = logging.getLogger(__name__)

ROWS, ROWS_A_SHARD = 131_072, 256
"""Rows exchanged at a time, and at least as many a shard: what it gets at a time should outweigh what describes it."""
ROWS_FILE = "rows.json"
"""Table -> how many rows each shard has."""
FEW = 64
"""Up to as many bounds are faster counted than searched: a search of users in any order mispredicts every branch."""

Columns = Mapping[str, Sequence[str]]
"""Table -> the columns that a build needs."""


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """How a build is cut, and who builds the shards."""

    touches: int = 600_000
    """About as many touches a shard; no result depends on it, memory (200 bytes a touch) and what a kill costs do."""
    jobs: int = 1
    """Processes that build shards side by side on this machine."""
    ray_address: str = ""
    """Ray cluster whose tasks build the shards instead, such as auto; it must see the same files. Empty = none."""

    def __post_init__(self) -> None:
        if self.touches < 1:
            raise ConfigError(f"shards.touches = {self.touches}: must be at least 1")
        if not 1 <= self.jobs <= 1024:
            raise ConfigError(f"shards.jobs = {self.jobs}: must be from 1 to 1,024")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Users from first_user, None for no bound, up to the next shard's."""

    number: int
    first_user: int | None = None


SAMPLED, SAMPLED_USERS = 31_250, 200
"""Touches a shard whose users say where to cut: counting those of all users takes twice as long. With fewer users a
shard than so many all count: shards would come out too large, and few users are soon counted."""
CUTS = """
WITH users AS (
    SELECT user_id, count(*) * $one_in AS touches FROM touchpoints
    WHERE hash(user_id) & CAST($one_in - 1 AS UBIGINT) = 0 GROUP BY user_id
),
placed AS (SELECT user_id, sum(touches) OVER (ORDER BY user_id) - touches AS before FROM users)
SELECT min(user_id), count(*) FROM placed GROUP BY before // $touches ORDER BY 1
"""


def cut(logs: Logs, config: ShardConfig, scratch: Path) -> tuple[Shard, ...]:
    """The shards of these logs, by user_id."""
    if logs.rows["touchpoints"] <= config.touches:
        return (Shard(number=0),)
    with session(scratch=scratch) as connection:
        logs.register(connection)
        one_in = 1 << max(config.touches // SAMPLED, 1).bit_length() - 1  # a power of two: its multiples are a mask
        cuts = _cuts(connection, config.touches, one_in)
        if one_in > 1 and sum(users for _, users in cuts) <= SAMPLED_USERS * len(cuts):
            cuts = _cuts(connection, config.touches, 1)
    firsts = [None, *(user for user, _ in cuts[1:])]
    return tuple(Shard(number=number, first_user=first) for number, first in enumerate(firsts))


def _cuts(connection: duckdb.DuckDBPyConnection, touches: int, one_in: int) -> list[tuple[int, int]]:
    """The first user of every shard, and how many of its users were counted."""
    return connection.execute(CUTS, {"touches": touches, "one_in": one_in}).fetchall()


def exchange(logs: Logs, shards: Sequence[Shard], columns: Columns, out: Path) -> None:
    """Write every shard's rows of these columns, in any order, to the folder `out`."""
    began = time.monotonic()
    first_users = np.array([shard.first_user for shard in shards[1:]], np.int64)
    exchanged: dict[str, list[int]] = {}
    with atomic_dir(out) as folder, session(scratch=out.parent) as connection:
        logs.register(connection)
        for table, names in columns.items():
            rows = max(ROWS, ROWS_A_SHARD * len(shards))
            reader = _select(connection, table, names).to_arrow_reader(rows)
            exchanged[table] = _scatter(reader, first_users, folder / table)
        write_json(folder / ROWS_FILE, exchanged)
    logger.info("%d shards' rows brought together, %.1f s", len(shards), time.monotonic() - began)


def read_shard(shard: Shard, exchanged: Path, columns: Columns) -> dict[str, pa.Table]:
    """The shard's rows, mapped from the files that `exchange` wrote."""
    tables = {}
    for table in columns:
        with pa.memory_map(str(_file(exchanged / table, shard.number))) as file:
            tables[table] = pa.ipc.open_stream(file).read_all()
    return tables


def first_touches(exchanged: Path) -> list[int]:
    """The position of every shard's first touch: how many the earlier ones hold."""
    rows: list[int] = read_json(exchanged / ROWS_FILE)["touchpoints"]
    return [0, *accumulate(rows[:-1])]


def read_whole(logs: Logs, columns: Columns, scratch: Path) -> dict[str, pa.Table]:
    """The same of logs that are one shard."""
    with session(scratch=scratch) as connection:
        logs.register(connection)
        return {table: _select(connection, table, names).to_arrow_table() for table, names in columns.items()}


def _select(connection: duckdb.DuckDBPyConnection, table: str, names: Sequence[str]) -> duckdb.DuckDBPyRelation:
    connection.execute("SET arrow_large_buffer_size = true")  # texts of a shard may pass 2 GiB
    return connection.table(table).project(", ".join(map(quote, names)))


def _scatter(reader: pa.RecordBatchReader, first_users: Ints, folder: Path) -> list[int]:
    """Append every row to its shard's stream, which is opened for each append: there may be more than files may be.

    Returns how many rows each shard has.
    """
    folder.mkdir()
    shards = len(first_users) + 1
    for number in range(shards):
        _file(folder, number).write_bytes(reader.schema.serialize())
    rows_S = np.zeros(shards, np.int64)
    for batch in reader:
        shard_B = _shard_of(batch["user_id"].to_numpy(), first_users)
        order_B = np.argsort(shard_B, kind="stable")
        batch, added_S = take(batch, order_B), np.bincount(shard_B, minlength=shards)
        bounds_S = np.append(0, np.cumsum(added_S))
        for number in np.flatnonzero(added_S).tolist():
            first, end = bounds_S[number : number + 2].tolist()
            with _file(folder, number).open("ab") as stream:
                stream.write(batch.slice(first, end - first).serialize())
        rows_S += added_S
    return rows_S.tolist()


def _shard_of(user_B: Ints, first_users: Ints) -> NDArray[np.unsignedinteger[Any]]:
    """The shard of each user. [B]."""
    dtype = np.min_scalar_type(len(first_users))
    if len(first_users) > FEW:
        return np.searchsorted(first_users, user_B, side="right").astype(dtype)
    shard_B = np.zeros(len(user_B), dtype)
    for first in first_users:
        shard_B += user_B >= first
    return shard_B


def _file(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.arrows"
