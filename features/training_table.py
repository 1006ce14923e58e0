"""The training table: every journey with the features of SERVICE as of its t_obs, in parts as the journeys are.

A part's users lie between two ids, and the store's sources are sorted by user, so that a part reads its own stretch of
them. The parts one after the other are the whole table in order of journey_id.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from features.definitions import SERVICE
from features.duck import parquet_sql, parquet_view, session, write_parquet
from features.feature_store import join_features
from features.files import atomic_dir, link
from features.journey_files import TRAINING_TABLE, part_file
from features.parts import missing, seal
from features.shards import ShardConfig
from features.workers import over

_MADE = "joined.parquet"


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Everything a part is made from, wherever that happens."""

    journeys: Sequence[Path]
    """The journeys' parts."""
    store_dir: Path
    """The Feast store, up to date."""
    fingerprint: str
    """Of all of it."""
    parts: Path
    """Folder of the finished parts, kept until the whole is there."""

    def part(self, number: int) -> Path:
        return self.parts / f"{number:05d}"


def build_training_table(retrieval: Retrieval, config: ShardConfig, folder: Path) -> None:
    """Write training_table/ into `folder`; parts that are there already are not retrieved again."""
    numbers = missing([(retrieval.part(number), retrieval.fingerprint) for number in range(len(retrieval.journeys))])
    over(partial(_build_part, retrieval), numbers, jobs=config.jobs, ray_address=config.ray_address)
    (folder / TRAINING_TABLE).mkdir()
    for number in range(len(retrieval.journeys)):
        link(retrieval.part(number) / _MADE, folder / part_file(TRAINING_TABLE, number))


def _build_part(retrieval: Retrieval, number: int) -> None:
    """One part's journeys with their features, in the journeys' order."""
    entities = f"SELECT *, t_obs AS event_timestamp FROM {parquet_sql(retrieval.journeys[number])}"
    with (
        atomic_dir(retrieval.part(number)) as folder,
        tempfile.TemporaryDirectory(prefix=".", dir=retrieval.parts) as scratch,
        session(scratch=Path(scratch)) as connection,
    ):
        joined = Path(scratch) / _MADE
        join_features(retrieval.store_dir, SERVICE, entities, joined)
        parquet_view(connection, "joined", joined)
        query = "SELECT * EXCLUDE (event_timestamp) FROM joined ORDER BY journey_id"
        write_parquet(connection, query, folder / _MADE)
        seal(folder, retrieval.fingerprint)
