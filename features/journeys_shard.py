"""One shard of journeys: its touches and uploads in memory, in any order -> sorted Parquet files and counts.

Users pass in chunks of about ROWS touches, whose arrays so stay in the processor's caches: their sorted touches are a
row group of touches.parquet, then go through the rules (features/journeys_rules.py), whose rows are kept until all are
there. A journey's id is the position of its last touch: unique, ascending, and known without the other shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.journeys_axis import Events, Ints, Timeline, chunks, key_order, take, user_bounds
from features.journeys_rules import JUDGE, SPLITS, Observations, Rules, observe, on_axis, post_exposures
from features.splits import shares

ROWS = 131_072
"""Touches that pass through the rules together, touches in the judge's windows as well, and most rows a row group."""

JOURNEYS = pa.schema({
    "journey_id": pa.int64(), "user_id": pa.int64(), "t_obs": pa.timestamp("us"), "offset": pa.int64(),
    "length": pa.int32(), "label": pa.int8(), "label_ts": pa.timestamp("us"), "upload_id": pa.int64(),
    "n_control": pa.float32(), "n_days_covered": pa.int16(), "split": pa.dictionary(pa.int8(), pa.string()),
})  # fmt: skip
EXPOSURES = pa.schema({"journey_id": pa.int64(), "cluster_id": pa.int32(), "n_touches": pa.int32()})

_DELTAS = frozenset({"journey_id", "user_id", "ts", "t_obs", "offset", "label_ts", "upload_id"})
"""Columns stored as differences: they ascend, or hardly repeat. Only their statistics can spare a reader anything."""
_PLAIN = frozenset({"watch_ratio"})
"""Columns that hardly repeat, and whose differences are no shorter; all others get a dictionary."""
_IDS, _NARROW = ("item_id", "author_id"), 2**24
"""Ids in a narrower range are differences too, as short as with a dictionary and written in half the time."""


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
    """Write touches.parquet, journeys.parquet and judge.parquet to `folder`; return the counts of what they hold.

    touchpoints: user_id, ts, item_id, cluster_id and what else is kept of a touch. uploads: user_id, ts, upload_id.
    first_touch: the position of the shard's first touch.
    """
    rows, made = _in_one(touchpoints), _in_one(uploads)
    uploaded = _events(take(made, _order(made, "upload_id")), "upload_id")
    counts: Counter[str] = Counter(touches=rows.num_rows)
    journeys: list[pa.RecordBatch] = []
    exposures: list[pa.RecordBatch] = []
    position = first_touch
    narrow = [name for name in _IDS if name in rows.schema.names and _range(rows[name]) < _NARROW]
    with open_parquet(folder / "touches.parquet", rows.schema, narrow) as touches:
        for some in _by_users(rows, rules):
            touches.write_batch(some, row_group_size=ROWS)
            seen = _events(some, "cluster_id")
            lines = on_axis(seen, uploaded[_of_users(uploaded.user_N, seen.user_N)], rules.axis)
            found = observe(*lines, rules, cuts)
            journeys.append(_journeys(*lines, found, position))
            exposures += _exposures(lines[0], found, rules, position)
            counts.update(_counts(found))
            position += some.num_rows
    for name, schema, batches in (("journeys", JOURNEYS, journeys), ("judge", EXPOSURES, exposures)):
        with open_parquet(folder / f"{name}.parquet", schema) as writer:
            writer.write_table(pa.Table.from_batches(batches, schema), row_group_size=ROWS)
    return dict(counts)


def open_parquet(path: Path, schema: pa.Schema, narrow: Sequence[str] = ()) -> pq.ParquetWriter:
    """A writer of rows sorted by key. narrow: further columns to store as differences."""
    names = set(schema.names)
    keys = sorted(names & _DELTAS)
    return pq.ParquetWriter(
        path, schema, compression="snappy", store_schema=False, write_statistics=keys,
        use_dictionary=sorted(names - _DELTAS - _PLAIN - {*narrow}),
        column_encoding=dict.fromkeys([*keys, *narrow], "DELTA_BINARY_PACKED"),
    )  # fmt: skip


def _range(ids: pa.Array) -> int:
    """How far apart the largest and the smallest id are."""
    ends = pc.min_max(ids).as_py()
    return int(ends["max"] - ends["min"]) if len(ids) else 0


def _in_one(table: pa.Table) -> pa.RecordBatch:
    return pa.record_batch([column.combine_chunks() for column in table.columns], schema=table.schema)


def _by_users(touches: pa.RecordBatch, rules: Rules) -> Iterator[pa.RecordBatch]:
    """Whole users' touches in order, about ROWS at a time, so that the sorted table never exists in memory."""
    order_N = _order(touches, "item_id")
    bounds = user_bounds(_integers(touches, "user_id")[order_N])
    for first, last in chunks(bounds, ROWS, rules.axis.most_users):
        yield take(touches, order_N[bounds[first] : bounds[last]])


def _of_users(user_M: Ints, user_N: Ints) -> slice:
    """Where in user_M users from the first to the last of user_N are; both ascend."""
    return slice(np.searchsorted(user_M, user_N[0]), np.searchsorted(user_M, user_N[-1], side="right"))


def _journeys(touches: Timeline, uploads: Timeline, found: Observations, first_touch: int) -> pa.RecordBatch:
    """Rows of JOURNEYS. first_touch: the position of the first of `touches`."""
    label_J = found.upload_J >= 0
    upload_J = pa.array(found.upload_J, mask=~label_J)
    columns = [
        found.last_J + first_touch,
        touches.user_U[found.rank_J],
        found.t_obs_J.view("M8[us]"),
        found.first_J + first_touch,
        (found.last_J - found.first_J + 1).astype(np.int32),
        label_J.astype(np.int8),
        pa.array(uploads.ts_N.view("M8[us]")).take(upload_J),
        pa.array(uploads.value_N).take(upload_J),
        found.n_control_J.astype(np.float32),
        found.n_days_covered_J.astype(np.int16),
        pa.DictionaryArray.from_arrays(found.split_J.astype(np.int8), SPLITS),
    ]
    return pa.record_batch([pa.array(column) for column in columns], schema=JOURNEYS)


def _exposures(touches: Timeline, found: Observations, rules: Rules, first_touch: int) -> Iterator[pa.RecordBatch]:
    """Rows of EXPOSURES. first_touch: the position of the first of `touches`."""
    judge_J = np.flatnonzero(found.split_J == JUDGE)
    for row_K, cluster_K, count_K in post_exposures(
        touches, found.rank_J[judge_J], found.t_obs_J[judge_J], rules, ROWS
    ):  # fmt: skip
        columns = found.last_J[judge_J[row_K]] + first_touch, cluster_K, count_K.astype(np.int32)
        yield pa.record_batch([pa.array(column) for column in columns], schema=EXPOSURES)


def _counts(found: Observations) -> dict[str, int]:
    """As the manifest names them; users and splits of the journeys that are kept."""
    of_split = np.bincount(found.split_J, minlength=len(SPLITS)).tolist()
    return {
        "journeys": len(found.t_obs_J), "labels": int((found.upload_J >= 0).sum()),
        "users": len(user_bounds(found.rank_J)) - 1, **dict(zip(SPLITS, of_split, strict=True)),
        "observed": found.observed, "uncensored": found.uncensored,
    }  # fmt: skip


def _order(events: pa.RecordBatch, key: str) -> Ints:
    return key_order(*(_integers(events, name) for name in ("user_id", "ts", key)))


def _events(events: pa.RecordBatch, value: str) -> Events:
    """Rows that are in order."""
    user, ts, values = (_integers(events, name) for name in ("user_id", "ts", value))
    return Events(user_N=user, ts_N=ts, value_N=values)


def _integers(events: pa.RecordBatch, name: str) -> Ints:
    """A column without nulls; moments as µs."""
    column: Ints = events[name].to_numpy()
    return column.view(np.int64) if column.dtype.kind == "M" else column
