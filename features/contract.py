"""The data contract of the logs: four Parquet tables, declared once.

Every other module asks this one which columns there are, what they mean and which values they may hold.
Timestamps are UTC with microseconds; a timestamp without a time zone is taken as UTC.
A folder per table holds `*.parquet` files, directly or under `dt=YYYY-MM-DD/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

EARLIEST_SENSIBLE = datetime(2000, 1, 1)
"""A timestamp before this is a unit error (seconds read as microseconds), not a log."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    name: the contract's name; a mapping may give it another one in the files.
    dtype: DuckDB type that readers see (BIGINT, INTEGER, TIMESTAMP, FLOAT, BOOLEAN, VARCHAR, FLOAT[]).
    meaning: what it holds, with its unit.
    required: the table is refused without it, and it may hold no null.
    low, high: inclusive range of the values, where there is one.
    is_response: a measurement of the mediator, taken right after the touchpoint.
    """

    name: str
    dtype: str
    meaning: str
    required: bool = False
    low: float | None = None
    high: float | None = None
    is_response: bool = False

    @property
    def is_timestamp(self) -> bool:
        return self.dtype == "TIMESTAMP"

    @property
    def is_embedding(self) -> bool:
        return self.dtype == "FLOAT[]"


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of the logs.

    name: its folder under the logs' root.
    key: columns whose values, together, occur once.
    columns: the columns known by name.
    required: the logs are refused without it.
    open_ended: further numeric or categorical columns belong to it too (profiles).
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    required: bool = False
    open_ended: bool = False


def _flag(name: str, meaning: str) -> Column:
    return Column(name=name, dtype="BOOLEAN", meaning=meaning, is_response=True)


def _key(name: str, dtype: str, meaning: str) -> Column:
    return Column(name=name, dtype=dtype, meaning=meaning, required=True)


TOUCHPOINTS = Table(
    name="touchpoints",
    required=True,
    key=("user_id", "item_id", "ts"),
    columns=(
        _key("user_id", "BIGINT", "who consumed"),
        _key("item_id", "BIGINT", "what was consumed"),
        _key("author_id", "BIGINT", "who made it"),
        _key("cluster_id", "INTEGER", "frozen content cluster of the item"),
        _key("ts", "TIMESTAMP", "when the exposure began, UTC"),
        Column(
            name="watch_ratio",
            dtype="FLOAT",
            meaning="share of the item that was watched",
            low=0.0,
            high=1.0,
            is_response=True,
        ),
        _flag("liked", "the user liked it"),
        _flag("saved", "the user saved it"),
        _flag("shared", "the user shared it"),
        _flag("followed", "the user followed its author"),
        _flag("commented", "the user commented on it"),
        _flag("template_tapped", "the user tapped 'use this template'"),
        Column(name="exposure_source", dtype="VARCHAR", meaning="which feed or recommender showed it"),
        Column(name="randomised", dtype="BOOLEAN", meaning="the exposure was drawn at random"),
    ),
)

UPLOADS = Table(
    name="uploads",
    required=True,
    key=("upload_id",),
    columns=(
        _key("user_id", "BIGINT", "who uploaded"),
        _key("upload_id", "BIGINT", "the uploaded content"),
        _key("ts", "TIMESTAMP", "when it was published, UTC"),
        Column(name="embedding", dtype="FLOAT[]", meaning="content embedding, D finite numbers"),
        Column(name="cluster_id", dtype="INTEGER", meaning="frozen content cluster of the upload"),
        Column(name="template_item_id", dtype="BIGINT", meaning="the item whose template it used"),
    ),
)

ITEMS = Table(
    name="items",
    key=("item_id",),
    columns=(
        _key("item_id", "BIGINT", "the item"),
        _key("author_id", "BIGINT", "who made it"),
        _key("cluster_id", "INTEGER", "frozen content cluster"),
        Column(name="embedding", dtype="FLOAT[]", meaning="content embedding, D finite numbers"),
        Column(name="published_ts", dtype="TIMESTAMP", meaning="when it was published, UTC"),
    ),
)

USERS = Table(
    name="users",
    key=("user_id", "event_timestamp"),
    open_ended=True,
    columns=(
        _key("user_id", "BIGINT", "the user"),
        _key("event_timestamp", "TIMESTAMP", "from when on the profile held, UTC"),
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in (TOUCHPOINTS, UPLOADS, ITEMS, USERS)}
RESPONSES: tuple[str, ...] = tuple(c.name for c in TOUCHPOINTS.columns if c.is_response)
