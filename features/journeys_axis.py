"""Users' time lines, one after the other on one axis of integers; sorting and cutting rows by user.

    x(r, t) = r W + clip(t − t₀, −1, D + 1),    W = D + 1 + apart,    D = t₁ − t₀

r is the user's rank, t₀ and t₁ the first and last moment of all events, `apart` how far time lines lie from each
other. "How many events of user r lie before t" is then one binary search in the sorted x of the events.

Shapes: N rows, U users. Times are int64 µs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_LARGEST = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Axis:
    """x(r, t), for events in [start, end] and any moment t."""

    start: int
    end: int
    apart: int

    @property
    def width(self) -> int:
        """W."""
        return self.end - self.start + 1 + self.apart

    @property
    def most_users(self) -> int:
        """How many time lines 63 bits hold."""
        return _LARGEST // self.width

    def at(self, rank: Ints, ts: Ints) -> Ints:
        """x of these users' moments; those outside the logs lie just outside. [any shape]."""
        x = ts - self.start
        np.clip(x, -1, self.end - self.start + 1, out=x)
        x += rank * self.width
        return x


@dataclass(frozen=True, kw_only=True)
class Events:
    """Rows in order of (user, ts, id): touches with their clusters, or uploads with their ids."""

    user_N: Ints
    ts_N: Ints
    value_N: NDArray[Any]

    def __getitem__(self, rows: slice | NDArray[Any]) -> Events:
        return Events(user_N=self.user_N[rows], ts_N=self.ts_N[rows], value_N=self.value_N[rows])


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Events of some of the users user_U, ascending, on an axis; rank_N is a place among those users."""

    axis: Axis
    user_U: Ints
    rank_N: Ints
    ts_N: Ints
    value_N: NDArray[Any]
    x_N: Ints

    @classmethod
    def of(cls, axis: Axis, user_U: Ints, events: Events) -> Timeline:
        """The events, all of them of these users."""
        bounds = user_bounds(events.user_N)
        rank_N = np.repeat(np.searchsorted(user_U, events.user_N[bounds[:-1]]), np.diff(bounds))
        x_N = axis.at(rank_N, events.ts_N)
        return cls(axis=axis, user_U=user_U, rank_N=rank_N, ts_N=events.ts_N, value_N=events.value_N, x_N=x_N)

    def before(self, rank_J: Ints, ts_J: Ints) -> Ints:
        """How many events lie before these moments of users: the position of the first that does not. [J]."""
        return np.searchsorted(self.x_N, self.axis.at(rank_J, ts_J))

    def until(self, rank_J: Ints, ts_J: Ints) -> Ints:
        """How many lie before or at them. [J]."""
        return np.searchsorted(self.x_N, self.axis.at(rank_J, ts_J), side="right")


def key_order(user_N: Ints, ts_N: Ints, id_N: Ints) -> Ints:
    """The order that sorts rows by (user, ts, id). [N].

    Integers are sorted that hold x(user, ts) above the row's number, several times faster than columns are, or an order
    is found. Where 63 bits are too few x loses its lowest: rows that then look alike, which are few, are sorted after.
    """
    if not len(user_N):
        return np.zeros(0, np.int64)
    axis = Axis(start=int(ts_N.min()), end=int(ts_N.max()), apart=0)
    users, place_N = _places(user_N, axis.most_users)
    if users > axis.most_users:
        return np.lexsort((id_N, ts_N, user_N))
    key_N, row_bits = axis.at(place_N, ts_N), len(user_N).bit_length()
    key_N >>= max((users * axis.width).bit_length() + row_bits - 63, 0)
    key_N <<= row_bits
    key_N += np.arange(len(user_N))
    key_N.sort()
    order_N = key_N & ((1 << row_bits) - 1)
    key_N >>= row_bits
    second = np.flatnonzero(key_N[1:] == key_N[:-1]) + 1
    alike = np.union1d(second - 1, second)
    row_T = order_N[alike]
    order_N[alike] = row_T[np.lexsort((id_N[row_T], ts_N[row_T], user_N[row_T]))]
    return order_N


def _places(user_N: Ints, most: int) -> tuple[int, Ints]:
    """How many places users take, and each row's, in the users' order: the id where that is below `most`, or a rank."""
    low, high = int(user_N.min()), int(user_N.max())
    if high - low < most:
        return high - low + 1, user_N - low
    coded = pa.array(user_N).dictionary_encode()  # by hashing: np.unique, which sorts, takes three times as long
    order_U = np.argsort(coded.dictionary.to_numpy())
    rank_U = np.empty(len(order_U), np.int64)
    rank_U[order_U] = np.arange(len(order_U))
    return len(order_U), rank_U[coded.indices.to_numpy()]


def take(rows: pa.RecordBatch, number_K: Ints) -> pa.RecordBatch:
    """The rows of these numbers, all of them there. [K].

    A column at a time: Arrow's own shares columns out to threads, which takes half as much CPU again.
    """
    numbers = pa.array(number_K)
    columns = [pc.take(column, numbers, boundscheck=False) for column in rows.columns]
    return pa.record_batch(columns, schema=rows.schema)


def user_bounds(user_N: Ints) -> Ints:
    """Where users begin in rows sorted by user, and where the last one ends. [U + 1]."""
    later = np.flatnonzero(user_N[1:] != user_N[:-1]) + 1
    return np.concatenate([[0], later, [len(user_N)]]) if len(user_N) else np.zeros(1, np.int64)


def chunks(bound_K: Ints, rows: int, most: int = _LARGEST) -> Iterator[tuple[int, int]]:
    """Ranges of wholes that hold about `rows` rows, and `most` wholes, together; whole k is bound_k to bound_{k+1}."""
    first, end = 0, len(bound_K) - 1
    while first < end:
        fitting = int(np.searchsorted(bound_K, bound_K[first] + rows, side="right")) - 1
        last = min(max(fitting, first + 1), first + most, end)
        yield first, last
        first = last
