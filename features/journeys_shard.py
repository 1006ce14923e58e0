"""One shard of journeys: its touches and uploads in memory, in any order -> sorted files and counts.

The touches become touches.parquet. Then users pass in chunks of about ROWS touches through the rules
(features/journeys_rules.py), whose arrays so stay in the processor's caches; journeys and the judge's table, numbered
within the shard, go to Arrow files chunk by chunk, and `join` makes one Parquet file of those of all shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.journeys_axis import Events, Ints, Timeline, chunks, key_order, user_bounds
from features.journeys_rules import JUDGE, SPLITS, Observations, Rules, observe, on_axis, post_exposures
from features.splits import shares

ROWS = 131_072
"""Touches that pass through the rules together, touches in the judge's windows as well, and rows a row group."""

JOURNEYS = pa.schema({
    "journey_id": pa.int64(), "user_id": pa.int64(), "t_obs": pa.timestamp("us"), "offset": pa.int64(),
    "length": pa.int32(), "label": pa.int8(), "label_ts": pa.timestamp("us"), "upload_id": pa.int64(),
    "n_control": pa.float32(), "n_days_covered": pa.int16(), "split": pa.string(),
})  # fmt: skip
EXPOSURES = pa.schema({"journey_id": pa.int64(), "cluster_id": pa.int32(), "n_touches": pa.int32()})

_DELTAS = frozenset({"journey_id", "user_id", "ts", "t_obs", "offset", "label_ts", "upload_id"})
"""Columns stored as differences: they ascend, or hardly repeat."""
_PLAIN = frozenset({"watch_ratio"})
"""Columns that hardly repeat, and whose differences are no shorter; all others get a dictionary."""


@dataclass(frozen=True, kw_only=True)
class SplitCuts:
    """Users whose share lies below `fit` are fitted on, of the others those below `selection` select."""

    fit: int
    selection: int

    def __call__(self, user_U: Ints) -> Ints:
        """Places in SPLITS. [U]."""
        return np.searchsorted([self.fit, self.selection], shares(user_U.tolist()), side="right")


def build_shard(
    *, touchpoints: pa.Table, uploads: pa.Table, rules: Rules, cuts: SplitCuts, first_touch: int, folder: Path
) -> dict[str, int]:
    """Write touches.parquet, journeys.arrow and judge.arrow to `folder`; return the counts of what they hold.

    touchpoints: user_id, ts, item_id, cluster_id and what else is kept of a touch. uploads: user_id, ts, upload_id.
    first_touch: the position of the shard's first touch among those of all shards.
    """
    order_N, order_M = _order(touchpoints, "item_id"), _order(uploads, "upload_id")
    _write_touches(touchpoints, order_N, folder / "touches.parquet")
    seen, made = _events(touchpoints, "cluster_id", order_N), _events(uploads, "upload_id", order_M)
    counts: Counter[str] = Counter(touches=len(order_N))
    with (
        pa.ipc.new_file(folder / "journeys.arrow", JOURNEYS) as journeys,
        pa.ipc.new_file(folder / "judge.arrow", EXPOSURES) as judge,
    ):
        for first, some_touches, some_uploads in _by_users(seen, made, rules):
            lines = on_axis(some_touches, some_uploads, rules.axis)
            found = observe(*lines, rules, cuts)
            for batch in _exposures(lines[0], found, rules, counts["journeys"]):
                judge.write_batch(batch)
            journeys.write_batch(_journeys(*lines, found, counts["journeys"], first_touch + first))
            counts.update(_counts(found))
    return dict(counts)


def join(files: Sequence[Path], journeys: Sequence[int], schema: pa.Schema, out: Path) -> None:
    """One Parquet file of the shards' Arrow files, in their order; journey_id counts on. journeys: of each shard."""
    before = 0
    with open_parquet(out, schema) as writer:
        for file, count in zip(files, journeys, strict=True):
            with pa.memory_map(str(file)) as mapped:
                table = pa.ipc.open_file(mapped).read_all()
            ids = pa.chunked_array([chunk.to_numpy() + before for chunk in table["journey_id"].chunks], pa.int64())
            writer.write_table(table.set_column(0, schema.field(0), ids), row_group_size=ROWS)
            before += count


def open_parquet(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of rows sorted by key."""
    names = set(schema.names)
    return pq.ParquetWriter(
        path, schema, compression="snappy", store_schema=False, use_dictionary=sorted(names - _DELTAS - _PLAIN),
        column_encoding=dict.fromkeys(sorted(names & _DELTAS), "DELTA_BINARY_PACKED"),
    )  # fmt: skip


def _write_touches(touches: pa.Table, order_N: Ints, path: Path) -> None:
    """A row group at a time, so that the sorted table never exists in memory."""
    with open_parquet(path, touches.schema) as writer:
        for first in range(0, len(order_N), ROWS):
            writer.write_table(touches.take(pa.array(order_N[first : first + ROWS])))


def _by_users(touches: Events, uploads: Events, rules: Rules) -> Iterator[tuple[int, Events, Events]]:
    """Whole users' touches and uploads, and how many touches came before."""
    bounds = user_bounds(touches.user_N)
    for first, last in chunks(bounds, ROWS, rules.axis.most_users):
        rows = slice(bounds[first], bounds[last])
        ends = touches.user_N[[rows.start, rows.stop - 1]]
        low, high = np.searchsorted(uploads.user_N, ends[0]), np.searchsorted(uploads.user_N, ends[1], side="right")
        yield int(rows.start), touches[rows], uploads[low:high]


def _journeys(touches: Timeline, uploads: Timeline, found: Observations, number: int, touch: int) -> pa.RecordBatch:
    """Rows of JOURNEYS. number, touch: how many journeys, and touches, came before."""
    label_J = found.upload_J >= 0
    upload_J = pa.array(found.upload_J, mask=~label_J)
    columns = [
        np.arange(number, number + len(label_J)),
        touches.user_U[found.rank_J],
        found.t_obs_J.view("M8[us]"),
        found.first_J + touch,
        (found.last_J - found.first_J + 1).astype(np.int32),
        label_J.astype(np.int8),
        pa.array(uploads.ts_N.view("M8[us]")).take(upload_J),
        pa.array(uploads.value_N).take(upload_J),
        found.n_control_J.astype(np.float32),
        found.n_days_covered_J.astype(np.int16),
        pa.array(SPLITS).take(pa.array(found.split_J)),
    ]
    return pa.record_batch([pa.array(column) for column in columns], schema=JOURNEYS)


def _exposures(touches: Timeline, found: Observations, rules: Rules, number: int) -> Iterator[pa.RecordBatch]:
    """Rows of EXPOSURES. number: how many journeys came before."""
    judge_J = np.flatnonzero(found.split_J == JUDGE)
    for row_K, cluster_K, count_K in post_exposures(
        touches, found.rank_J[judge_J], found.t_obs_J[judge_J], rules, ROWS
    ):  # fmt: skip
        columns = judge_J[row_K] + number, cluster_K, count_K.astype(np.int32)
        yield pa.record_batch([pa.array(column) for column in columns], schema=EXPOSURES)


def _counts(found: Observations) -> dict[str, int]:
    """As the manifest names them; users and splits of the journeys that are kept."""
    of_split = np.bincount(found.split_J, minlength=len(SPLITS)).tolist()
    return {
        "journeys": len(found.t_obs_J), "labels": int((found.upload_J >= 0).sum()),
        "users": len(user_bounds(found.rank_J)) - 1, **dict(zip(SPLITS, of_split, strict=True)),
        "observed": found.observed, "uncensored": found.uncensored,
    }  # fmt: skip


def _order(events: pa.Table, key: str) -> Ints:
    return key_order(*(_integers(events, name) for name in ("user_id", "ts", key)))


def _events(events: pa.Table, value: str, order: Ints) -> Events:
    """The rows in order."""
    user, ts, values = (_integers(events, name)[order] for name in ("user_id", "ts", value))
    return Events(user_N=user, ts_N=ts, value_N=values)


def _integers(events: pa.Table, name: str) -> Ints:
    """A column without nulls; moments as µs."""
    column: Ints = events[name].to_numpy()
    return column.view(np.int64) if column.dtype.kind == "M" else column
