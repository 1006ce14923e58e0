"""What was drawn, as the contract's Parquet tables and the truth beside them."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from validation.worlds.base import (
    FIRST_SESSION_DAY,
    SESSION_JITTER_DAYS,
    SESSION_SPACING_DAYS,
    Constants,
    Floats,
    Ints,
    Responses,
    Sessions,
    Truth,
    World,
)
from validation.worlds.catalogue import Catalogue

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
EPOCH_US = 1_767_225_600_000_000  # 2026-01-01 UTC, day 0 of the logs


def session_times(world: World, s: Sessions, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """(end_US, ts_USL) in microseconds: sessions a little over a week apart, outside each other's lookback."""
    jitter_US = rng.uniform(-SESSION_JITTER_DAYS, SESSION_JITTER_DAYS, s.base_US.shape)
    day_US = FIRST_SESSION_DAY + SESSION_SPACING_DAYS * np.arange(world.sessions) + jitter_US
    end_US = EPOCH_US + (day_US * DAY_US).astype(np.int64)
    ts_USL = end_US[:, :, None] - np.round(s.gap_hours_USL * HOUR_US).astype(np.int64)
    return end_US, ts_USL - np.arange(world.touches)[::-1]  # no two touches share a microsecond


def touch_table(world: World, c: Constants, user_U: Ints, s: Sessions, responses: Responses, ts_USL: Ints) -> pa.Table:
    """Touches user by user, oldest first."""
    here = s.present_USL
    item_N = s.item_USL[here]
    columns = {
        "user_id": np.broadcast_to(user_U[:, None, None], here.shape)[here],
        "item_id": c.item_I[item_N],
        "author_id": c.author_I[item_N],
        "cluster_id": s.cluster_USL[here].astype(np.int32),
        "ts": timestamps(ts_USL[here]),
        **{name: value_USL[here] for name, value_USL in responses.items()},
    }
    if world.randomised_share > 0:
        columns["randomised"] = s.randomised_USL[here]
    return pa.table(columns)


def user_table(
    world: World, user_U: Ints, s: Sessions, rng: np.random.Generator, catalogue: Catalogue | None
) -> pa.Table:
    """Profiles: x and a region that matters for nothing, or the catalogue's own columns."""
    columns = {"user_id": user_U, "event_timestamp": timestamps(np.full(len(user_U), EPOCH_US))}
    if catalogue:
        columns |= dict(zip(catalogue.profiles.column_names, catalogue.profiles.take(s.profile_row_U), strict=True))
    else:
        columns |= {f"x{p}": column.astype(np.float32) for p, column in enumerate(s.x_UP.T)}
        columns["region"] = np.array(["north", "east", "south", "west"])[rng.integers(0, 4, len(user_U))]
    return pa.table(columns).filter(pa.array(rng.random(len(user_U)) < world.profile_share))


def items_table(c: Constants) -> pa.Table:
    """The catalogue."""
    return pa.table(
        {
            "item_id": c.item_I,
            "author_id": c.author_I,
            "cluster_id": c.cluster_I.astype(np.int32),
            "embedding": vectors(c.embedding_ID),
            "published_ts": timestamps(np.full(len(c.item_I), EPOCH_US)),
        }
    )


def truth_tables(truth: Truth, c: Constants, user_U: Ints, s: Sessions, ts_USL: Ints) -> dict[str, pa.Table]:
    """Δ of every touch, and P(Y=1|do) of every session."""
    here = s.present_USL
    t_obs_US = ts_USL[:, :, -1]
    return {
        "truth/touchpoints": pa.table(
            {
                "user_id": np.broadcast_to(user_U[:, None, None], here.shape)[here],
                "t_obs": timestamps(np.broadcast_to(t_obs_US[..., None], here.shape)[here]),
                "item_id": c.item_I[s.item_USL[here]],
                "ts": timestamps(ts_USL[here]),
                "delta": (truth.p_do_US[..., None] - truth.p_without_USL)[here],
            }
        ),
        "truth/journeys": pa.table(
            {
                "user_id": np.repeat(user_U, truth.p_do_US.shape[1]),
                "t_obs": timestamps(t_obs_US.ravel()),
                "p_do": truth.p_do_US.ravel(),
                "p_do_none": truth.p_none_US.ravel(),
            }
        ),
    }


def timestamps(microseconds: Ints) -> pa.Array:
    """UTC timestamps without a zone."""
    return pa.array(microseconds, pa.int64()).cast(pa.timestamp("us"))


def vectors(values_ND: Floats) -> pa.Array:
    """list<float32>[D], one a row."""
    flat = pa.array(values_ND.astype(np.float32).ravel())
    offsets = pa.array(np.arange(len(values_ND) + 1, dtype=np.int32) * values_ND.shape[1])
    return pa.ListArray.from_arrays(offsets, flat)


class Writers:
    """One growing Parquet file a table."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> Writers:
        return self

    def write(self, tables: dict[str, pa.Table]) -> None:
        """Append; the first chunk of a table fixes its columns."""
        for name, table in tables.items():
            if name not in self._open:
                (self._folder / name).mkdir(parents=True)
                path = self._folder / name / "part-0.parquet"
                self._open[name] = pq.ParquetWriter(path, table.schema, compression="zstd")
            self._open[name].write_table(table)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._open.values():
            writer.close()
