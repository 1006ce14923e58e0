"""Feast retrieval jobs that are one DuckDB query, run anew on each of to_df, to_arrow and persist."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage

from features.asof_join import EVENT_TIMESTAMP, RangeScan, ViewJoin, asof_query, range_query
from features.duck import fetch_one, quote
from features.errors import ConfigError
from features.files import atomic_file

Connect = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]
"""Opens a connection with a store's settings."""


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
        if self.on_demand_feature_views:
            raise ConfigError("on-demand features are computed in Python: use to_arrow instead of persist")
        path = Path(storage.file_options.uri)
        if path.exists() and not allow_overwrite:
            raise ConfigError(f"{path} exists; pass allow_overwrite=True to replace it")
        with self._prepared() as result, atomic_file(path) as temporary:
            result.write_parquet(str(temporary), compression="zstd")

    @property
    def full_feature_names(self) -> bool:
        return False

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return []


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
                connection.register("entity", self._entity)
            yield connection

    @contextmanager
    def _prepared(self) -> Iterator[duckdb.DuckDBPyRelation]:
        with self._entity_connection() as connection:
            for i, view in enumerate(self._views):
                connection.read_parquet(view.files).create_view(f"view_{i}")
            yield connection.sql(asof_query(self._views, connection.table("entity").columns))

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
        self._connect, self._scan, self._bounds = connect, scan, {"start": start, "end": end}

    @contextmanager
    def _prepared(self) -> Iterator[duckdb.DuckDBPyRelation]:
        with self._connect() as connection:
            connection.read_parquet(self._scan.files).create_view("source")
            yield connection.sql(range_query(self._scan), params=self._bounds)

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return None
