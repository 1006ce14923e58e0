"""Parquet -> one array a column, streamed: what is held is the arrays and a few thousand rows.

Every array is allocated at its full length first and then filled, in memory or in a .npy file. From files they come
back as memory maps, so that processes which train side by side share one copy through the page cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from features.files import atomic_dir
from features.journey_files import part_files

ROWS = 131_072
"""Rows read at a time."""
SPARSE = 16
"""Values in a range of at most this many times their number are looked up in a table of the range."""

Arrays = dict[str, NDArray[Any]]
Allocate = Callable[[str, tuple[int, ...], Any], NDArray[Any]]
"""(name, shape, dtype) -> an array to fill."""


def index_of(known: pd.Index[Any], value_N: NDArray[Any]) -> NDArray[np.int64]:
    """Position of each value among K distinct known ones, K for others, by a hash table that `known` keeps. [N]."""
    index_N = known.get_indexer(pd.Index(value_N.reshape(-1))).astype(np.int64, copy=False)
    index_N[index_N < 0] = len(known)
    return index_N.reshape(value_N.shape)


class Positions:
    """`index_of` for many calls; where the known values lie close together, by a table of their range: a third."""

    def __init__(self, known_K: NDArray[np.int64]) -> None:
        self._known = pd.Index(known_K)
        self._table: NDArray[Any] | None = None
        least, most = (int(known_K.min()), int(known_K.max())) if len(known_K) else (0, 0)
        if most - least < SPARSE * len(known_K) and least > np.iinfo(np.int64).min:
            self._below = least - 1
            smallest = np.min_scalar_type(len(known_K))  # it is read in no order: the less of it, the faster
            self._table = np.full(most - self._below + 2, len(known_K), smallest)  # its ends stand for all beyond them
            self._table[known_K - self._below] = np.arange(len(known_K))

    def of(self, value_N: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Position of each value, K for unknown ones. [N]."""
        if self._table is None:
            return index_of(self._known, value_N)
        return self._table.take(value_N.astype(np.int64) - self._below, mode="clip").astype(np.int64)


def stream(paths: Sequence[Path], columns: list[str]) -> Iterator[tuple[slice, pa.RecordBatch]]:
    """Batches of rows of Parquet files that continue each other, each with its place in the whole.

    On one thread: others would mostly wait for the one that fills the arrays.
    """
    start = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS, columns=columns, use_threads=False):
                yield slice(start, start + batch.num_rows), batch
                start += batch.num_rows


def read_columns(journeys_dir: Path, data_dir: Path, schema: dict[str, Any], cache: Path | None = None) -> Arrays:
    """Items and touches by the names that `_read_items` and `_read_touches` give them.

    With `cache` they are memory maps of that folder's files, private to whoever writes to them. It is written, as a
    whole, by the first process that finds it missing, and holds for these folders and this schema only.
    """
    if cache is None:
        return _read(journeys_dir, data_dir, schema, lambda _, shape, dtype: np.empty(shape, dtype))
    cache.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cache.with_suffix(".lock")):
        if not cache.is_dir():
            with atomic_dir(cache) as folder:
                _read(journeys_dir, data_dir, schema, partial(_in_file, folder))
    return {path.stem: np.load(path, mmap_mode="c") for path in cache.glob("*.npy")}


def _in_file(folder: Path, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)


def _read(journeys_dir: Path, data_dir: Path, schema: dict[str, Any], allocate: Allocate) -> Arrays:
    items = _read_items(data_dir / "items.parquet", schema, allocate)
    return items | _read_touches(part_files(journeys_dir, "touches"), schema, Positions(items["item_id_I"]), allocate)


def _read_items(path: Path, schema: dict[str, Any], allocate: Allocate) -> Arrays:
    """The catalogue in its own order, by item_id; content has one row more, of zeros, for items without any."""
    rows, present = pq.read_metadata(path).num_rows, set(pq.read_schema(path).names)
    embedding_dim, clusters = schema["embedding_dim"], Positions(np.array(schema["clusters"], np.int64))
    arrays = {name: allocate(name, (rows,), np.int64) for name in ("item_id_I", "author_id_I", "cluster_index_I")}
    content_ID = arrays["content_ID"] = allocate("content_ID", (rows + 1, max(embedding_dim, 1)), np.float32)
    content_ID[:] = 0
    embedded = ["embedding"] if embedding_dim and "embedding" in present else []
    for place, batch in stream([path], ["item_id", "author_id", "cluster_id", *embedded]):
        arrays["item_id_I"][place] = batch["item_id"].to_numpy()
        arrays["author_id_I"][place] = batch["author_id"].to_numpy()
        arrays["cluster_index_I"][place] = clusters.of(batch["cluster_id"].to_numpy())
        for name in embedded:
            known_B = batch[name].is_valid().to_numpy(zero_copy_only=False)
            content_ID[place][known_B] = batch[name].drop_null().flatten().to_numpy().reshape(-1, embedding_dim)
    return arrays


def _read_touches(paths: list[Path], schema: dict[str, Any], items: Positions, allocate: Allocate) -> Arrays:
    """The touches in their own order, by user, and where each user's begin.

    touch_ts_N in µs, touch_item_N a row of the content, touch_cluster_N a position in the schema's clusters,
    response_NR (NaN where nothing was observed), touch_randomised_N (False where the logs do not say).
    """
    rows = sum(pq.read_metadata(path).num_rows for path in paths)
    present = set(pq.read_schema(paths[0]).names)
    responses, clusters = schema["responses"], Positions(np.array(schema["clusters"], np.int64))
    marked = [name for name in ("randomised",) if name in present]
    arrays = {name: allocate(name, (rows,), np.int64) for name in ("touch_ts_N", "touch_item_N", "touch_cluster_N")}
    arrays["response_NR"] = allocate("response_NR", (rows, len(responses)), np.float32)
    arrays["touch_randomised_N"] = allocate("touch_randomised_N", (rows,), np.bool_)
    arrays["touch_randomised_N"][:] = False
    users, starts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for place, batch in stream(paths, ["user_id", "ts", "item_id", "cluster_id", *responses, *marked]):
        user_id_B = batch["user_id"].to_numpy()
        begins_B = np.ones(len(user_id_B), np.bool_)
        np.not_equal(user_id_B[1:], user_id_B[:-1], out=begins_B[1:])
        first_B = np.flatnonzero(begins_B)
        users.append(user_id_B[first_B])
        starts.append(place.start + first_B)
        arrays["touch_ts_N"][place] = microseconds(batch["ts"])
        arrays["touch_item_N"][place] = items.of(batch["item_id"].to_numpy())
        arrays["touch_cluster_N"][place] = clusters.of(batch["cluster_id"].to_numpy())
        for column, name in enumerate(responses):
            arrays["response_NR"][place, column] = floats(batch[name])
        for name in marked:
            arrays["touch_randomised_N"][place] = _bits(batch[name].fill_null(False))
    user_id_U, first_U = np.unique(np.concatenate(users), return_index=True)  # a user may span batches
    for name, value_U in (("user_id_U", user_id_U), ("user_start_U", np.concatenate(starts)[first_U])):
        arrays[name] = allocate(name, value_U.shape, np.int64)
        arrays[name][:] = value_U
    return arrays


def microseconds(values: pa.Array) -> NDArray[np.int64]:
    """Timestamps since 1970, in UTC. [B]."""
    us = pa.timestamp("us", values.type.tz)
    return np.asarray(values.cast(us, safe=False).cast("int64").to_numpy(), np.int64)


def floats(values: pa.Array) -> NDArray[np.float32]:
    """Numbers or flags, NaN for null. [B]."""
    if not pa.types.is_boolean(values.type):
        return np.asarray(values.cast("float32", safe=False).fill_null(np.nan).to_numpy(), np.float32)
    value_B = _bits(values).astype(np.float32)
    if values.null_count:
        value_B[~values.is_valid().to_numpy(zero_copy_only=False)] = np.nan
    return value_B


def _bits(flags: pa.BooleanArray) -> NDArray[np.uint8]:
    """0 or 1, anything for null: Arrow's own way, bit by bit, takes as long as decoding them."""
    begin, end = flags.offset, flags.offset + len(flags)
    return np.unpackbits(np.frombuffer(flags.buffers()[1], np.uint8), count=end, bitorder="little")[begin:]
