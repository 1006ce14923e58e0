"""How a build over users is cut: shards are ranges of user_id that hold about as many touches each.

With N(u) the touches of users below u and n = ShardConfig.touches, user u belongs to shard ⌊N(u) / n⌋. Ranges, not
hashes: the shards one after the other are the whole table sorted by user, so what is built does not depend on how
it was cut, nor on how many machines built it.

`exchange` brings every shard's rows together in one pass over the logs; without it each shard would read them all.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from features.duck import quote, session, write_parquet
from features.errors import ConfigError
from features.files import atomic_dir
from features.reader import Logs

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """How a build is cut, and who builds the shards."""

    touches: int = 2_000_000
    """About as many touches a shard; no result depends on it, memory and what a killed build repeats do."""
    jobs: int = 1
    """Processes that build shards side by side on this machine."""
    ray_address: str = ""
    """Ray cluster whose tasks build the shards instead, such as auto; it must see the same files. Empty = none."""

    def __post_init__(self) -> None:
        if self.touches < 1:
            raise ConfigError(f"shards.touches = {self.touches}: must be at least 1")
        if not 1 <= self.jobs <= 1024:
            raise ConfigError(f"shards.jobs = {self.jobs}: must be from 1 to 1,024")

    @property
    def threads(self) -> int | None:
        """Cores a shard may use; None = all. To Ray a task is one core."""
        if self.ray_address:
            return 1
        return None if self.jobs == 1 else max((os.cpu_count() or 1) // self.jobs, 1)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Users from first_user up to, but without, end_user; None = no bound."""

    number: int
    first_user: int | None = None
    end_user: int | None = None
    first_touch: int = 0
    """Where the shard's touches begin in the table of all."""

    @property
    def condition(self) -> str:
        """SQL that holds for the shard's users."""
        first = [] if self.first_user is None else [f"user_id >= {self.first_user:d}"]
        end = [] if self.end_user is None else [f"user_id < {self.end_user:d}"]
        return " AND ".join([*first, *end]) or "true"


CUTS = """
WITH users AS (SELECT user_id, count(*) AS touches FROM touchpoints GROUP BY user_id),
placed AS (SELECT user_id, CAST(sum(touches) OVER (ORDER BY user_id) - touches AS BIGINT) AS before FROM users)
SELECT min(user_id), min(before) FROM placed GROUP BY before // $touches ORDER BY 1
"""


def cut(logs: Logs, config: ShardConfig, scratch: Path) -> tuple[Shard, ...]:
    """The shards of these logs, by user_id."""
    if logs.rows["touchpoints"] <= config.touches:
        return (Shard(number=0),)
    with session(scratch=scratch) as connection:
        logs.register(connection)
        cuts = connection.execute(CUTS, {"touches": config.touches}).fetchall()
    firsts = [None, *(user for user, _ in cuts[1:])]
    ends = [*(user for user, _ in cuts[1:]), None]
    return tuple(
        Shard(number=number, first_user=first, end_user=end, first_touch=before)
        for number, (first, end, (_, before)) in enumerate(zip(firsts, ends, cuts, strict=True))
    )


def exchange(logs: Logs, shards: Sequence[Shard], columns: Sequence[str], out: Path) -> None:
    """Write the touches, a folder a shard, and the uploads, sorted by user, to the folder `out`."""
    began = time.monotonic()
    names = ", ".join(map(quote, columns))
    with atomic_dir(out) as folder, session(scratch=out.parent) as connection:
        logs.register(connection)
        connection.execute(
            f"COPY (SELECT {names}, {_number(shards)} AS shard FROM touchpoints) TO $folder "
            "(FORMAT parquet, COMPRESSION snappy, PARTITION_BY (shard))",
            {"folder": str(folder / "touchpoints")},
        )
        write_parquet(
            connection, "SELECT user_id, ts, upload_id FROM uploads ORDER BY user_id", folder / "uploads.parquet"
        )
    logger.info("%d shards' touches brought together, %.1f s", len(shards), time.monotonic() - began)


def register_shard(connection: duckdb.DuckDBPyConnection, shard: Shard, exchanged: Path) -> None:
    """Views touchpoints and uploads of the shard's users."""
    touches = exchanged / "touchpoints" / f"shard={shard.number}" / "*.parquet"
    connection.read_parquet(str(touches), hive_partitioning=False).create_view("touchpoints")
    connection.read_parquet(str(exchanged / "uploads.parquet")).filter(shard.condition).create_view("uploads")


def _number(shards: Sequence[Shard]) -> str:
    """SQL that finds a user's shard by halving."""
    if len(shards) == 1:
        return f"{shards[0].number:d}"
    middle = len(shards) // 2
    below, above = _number(shards[:middle]), _number(shards[middle:])
    return f"CASE WHEN user_id < {shards[middle].first_user:d} THEN {below} ELSE {above} END"
