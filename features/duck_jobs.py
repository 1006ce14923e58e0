"""Feast retrieval jobs that are one DuckDB query, run anew on each of to_df, to_arrow and persist.

`persist` streams: what a job holds in memory does not grow with its result. On-demand features, which are Python,
are then computed CHUNK_ROWS at a time by Feast's own code, so they must be functions of their own row.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage
from feast.types import from_feast_to_pyarrow_type

from features.asof_join import EVENT_TIMESTAMP, RangeScan, ViewJoin, asof_query, epoch_us, range_query
from features.duck import fetch_one, quote
from features.errors import ConfigError
from features.files import atomic_file

Connect = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]
"""Opens a connection with a store's settings."""

CHUNK_ROWS = 100_000
_INTEGERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"})


class DuckDBJob(RetrievalJob):
    """What all jobs share; a job says how its query is prepared."""

    @abstractmethod
    def _prepared(self) -> AbstractContextManager[duckdb.DuckDBPyRelation]:
        """The lazy result on an open connection."""

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002
        with self._prepared() as result:
            return result.to_arrow_table()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._to_arrow_internal(timeout).to_pandas()
        return frame

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,
        timeout: int | None = None,  # noqa: ARG002
    ) -> None:
        """Stream the result into one Parquet file; rows come in any order."""
        if not isinstance(storage, SavedDatasetFileStorage):
            raise ConfigError(f"cannot persist to {type(storage).__name__}; use SavedDatasetFileStorage")
        path = Path(storage.file_options.uri)
        if path.exists() and not allow_overwrite:
            raise ConfigError(f"{path} exists; pass allow_overwrite=True to replace it")
        with self._prepared() as result, atomic_file(path) as temporary:
            if self.on_demand_feature_views:
                self._write_transformed(result, temporary)
            else:
                result.write_parquet(str(temporary), compression="zstd")

    def _write_transformed(self, result: duckdb.DuckDBPyRelation, path: Path) -> None:
        """Stream the result with its on-demand features, in the types that their views declare."""
        reader, metadata = result.to_arrow_reader(CHUNK_ROWS), self.metadata
        chunks = (pa.Table.from_batches([batch]) for batch in reader)
        first = _Chunk(self, next(chunks, reader.schema.empty_table()), metadata).to_arrow()
        schema = pa.schema([self._declared().get(field.name, field) for field in first.schema])
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for table in chain([first], (_Chunk(self, chunk, metadata).to_arrow() for chunk in chunks)):
                writer.write_table(table.cast(schema))

    def _declared(self) -> dict[str, pa.Field]:
        """Column -> field of every on-demand feature."""
        fields = {}
        for view in self.on_demand_feature_views:
            named = view.projection.name_to_use()  # type: ignore[no-untyped-call]
            prefix = f"{named}__" if self.full_feature_names else ""
            for feature in view.features:
                name = f"{prefix}{feature.name}"
                fields[name] = pa.field(name, from_feast_to_pyarrow_type(feature.dtype))
        return fields

    @property
    def full_feature_names(self) -> bool:
        return False

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return []


class _Chunk(RetrievalJob):
    """Some rows of a job: `to_arrow` adds their on-demand features."""

    def __init__(self, job: DuckDBJob, rows: pa.Table, metadata: RetrievalMetadata | None) -> None:
        super().__init__()
        self._job, self._rows, self._metadata = job, rows, metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002
        return self._rows

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:  # noqa: ARG002
        frame: pd.DataFrame = self._rows.to_pandas()
        return frame

    @property
    def full_feature_names(self) -> bool:
        return self._job.full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._job.on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata


class AsofRetrievalJob(DuckDBJob):
    """The point-in-time join of an entity table with feature views."""

    def __init__(
        self,
        connect: Connect,
        entity: pd.DataFrame | str,
        views: list[ViewJoin],
        odfvs: list[OnDemandFeatureView],
        full_feature_names: bool,
        feature_refs: list[str],
    ) -> None:
        super().__init__()
        self._connect, self._entity, self._views = connect, entity, views
        self._odfvs, self._full_feature_names, self._feature_refs = odfvs, full_feature_names, feature_refs

    @contextmanager
    def _entity_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that knows the table `entity`."""
        with self._connect() as connection:
            if isinstance(self._entity, str):
                connection.sql(self._entity).create_view("entity")
            else:
                connection.register("entity", _with_moments(self._entity))
            yield connection

    @contextmanager
    def _prepared(self) -> Iterator[duckdb.DuckDBPyRelation]:
        with self._entity_connection() as connection:
            query = asof_query(self._views, connection.table("entity").columns)
            ranges = _key_ranges(connection, self._views)
            for i, view in enumerate(self._views):
                _near_entities(connection, view, ranges).create_view(f"view_{i}")
            yield connection.sql(query)

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._odfvs

    @property
    def metadata(self) -> RetrievalMetadata:
        """Features, keys, and the range of the entity rows' timestamps."""
        with self._entity_connection() as connection:
            stamp = quote(EVENT_TIMESTAMP)
            first, last = fetch_one(connection, f"SELECT min({stamp}), max({stamp}) FROM entity")
            keys = [name for name in connection.table("entity").columns if name != EVENT_TIMESTAMP]
        return RetrievalMetadata(self._feature_refs, keys, first, last)


class RangeJob(DuckDBJob):
    """The rows of one source between two moments, all or the latest of each key: what materialising reads."""

    def __init__(self, connect: Connect, scan: RangeScan, start: datetime, end: datetime) -> None:
        super().__init__()
        self._connect, self._scan, self._bounds = connect, scan, {"start": epoch_us(start), "end": epoch_us(end)}

    @contextmanager
    def _prepared(self) -> Iterator[duckdb.DuckDBPyRelation]:
        with self._connect() as connection:
            _source(connection, self._scan.files).create_view("source")
            yield connection.sql(range_query(self._scan), params=self._bounds)

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return None


def _source(connection: duckdb.DuckDBPyConnection, files: str) -> duckdb.DuckDBPyRelation:
    """The rows of a Parquet file with the columns that it holds; of a pattern with those of folders key=value, too."""
    return connection.read_parquet(files) if "*" in files else connection.read_parquet(files, hive_partitioning=False)


def _key_ranges(connection: duckdb.DuckDBPyConnection, views: Sequence[ViewJoin]) -> dict[str, tuple[Any, Any]]:
    """The views' integer keys -> the least and the greatest in the table `entity`, which may be dear to read: once."""
    entity = connection.table("entity")
    keys = sorted({key for view in views for key in view.keys if _type_of(entity, key) in _INTEGERS})
    if not keys:
        return {}
    ends = fetch_one(connection, f"SELECT {', '.join(f'min({k}), max({k})' for k in map(quote, keys))} FROM entity")
    return dict(zip(keys, zip(ends[::2], ends[1::2], strict=True), strict=True))


def _near_entities(
    connection: duckdb.DuckDBPyConnection, view: ViewJoin, ranges: Mapping[str, tuple[Any, Any]]
) -> duckdb.DuckDBPyRelation:
    """The view's rows whose integer keys lie in the entities' ranges.

    Others match nothing, and of a source that is sorted by key they are not even read.
    """
    rows = _source(connection, view.files)
    for key, stored in view.keys.items():
        if key in ranges and _type_of(rows, stored) in _INTEGERS:
            least, greatest = ranges[key]
            bounds = f"{quote(stored)} BETWEEN {least:d} AND {greatest:d}" if least is not None else "false"
            rows = rows.filter(bounds)
    return rows


def _type_of(rows: duckdb.DuckDBPyRelation, column: str) -> str:
    """DuckDB's name of a column's type; its names differ in more than case. Empty where there is no such column."""
    types = {name.casefold(): str(kind) for name, kind in zip(rows.columns, rows.types, strict=True)}
    return types.get(column.casefold(), "")


def _with_moments(entity: pd.DataFrame) -> pd.DataFrame:
    """The frame with timestamps that were text as UTC timestamps, as Feast's own stores take them."""
    if EVENT_TIMESTAMP not in entity or not pd.api.types.is_string_dtype(entity[EVENT_TIMESTAMP]):
        return entity
    return entity.assign(**{EVENT_TIMESTAMP: pd.to_datetime(entity[EVENT_TIMESTAMP], utc=True)})
