"""A Feast offline store whose point-in-time join is one DuckDB query (`features/asof_join.py`).

To use it, with sources in Parquet, write into feature_store.yaml:

    offline_store:
      type: features.asof_store.AsofOfflineStore
      memory_limit: 2GB                  # every line from here on may be left out
      threads: 4
      temp_directory: /scratch           # where DuckDB spills what exceeds memory_limit
      created_until: 2024-06-01T00:00:00Z

The entity table is a DataFrame or SQL text with a column `event_timestamp`; one of its columns that carries the name
of a feature is an error. Views without entities, join key maps, on-demand views and `filter_by_created_timestamp` work
as Feast documents them. `persist` streams to Parquet; nothing but on-demand features passes through pandas. The stock
DuckDB store joins all earlier rows first and sorts them (out of memory at 1e7 rows and a TTL of 30 d).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import duckdb
import pandas as pd
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.feature_view import FeatureView
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig

from features.asof_join import RangeScan, ViewJoin
from features.duck import MEMORY_LIMIT, session
from features.duck_jobs import AsofRetrievalJob, RangeJob
from features.errors import ConfigError


class AsofOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """memory_limit, threads (all cores when unset) and temp_directory (the system's when unset) of DuckDB.

    created_until: values whose source says that they were created later are not seen, in retrieval and when
    materialising, which repeats what was known then; null: no such bound.
    """

    type: str = "features.asof_store.AsofOfflineStore"
    memory_limit: str = MEMORY_LIMIT
    threads: int | None = None
    temp_directory: str | None = None
    created_until: datetime | None = None

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection with these settings."""
        scratch = Path(self.temp_directory) if self.temp_directory else None
        with session(memory_limit=self.memory_limit, threads=self.threads, scratch=scratch) as connection:
            yield connection


class AsofOfflineStore(DuckDBOfflineStore):
    """Feast's hooks; the query is `asof_query`."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(  # type: ignore[override]  # ranges without entities are another query
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> AsofRetrievalJob:
        """The join as a lazy job. entity_df: entity keys and `event_timestamp`, as a DataFrame or SQL text."""
        asked = (feature_refs, full_feature_names, filter_by_created_timestamp)
        views = [_view_join(config, view, *asked) for view in feature_views]
        odfvs = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        return AsofRetrievalJob(config.offline_store.connect, entity_df, views, odfvs, full_feature_names, feature_refs)

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RangeJob:
        """The latest row of each key in [start_date, end_date], the latest created first."""
        columns = (join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column)
        scan = _scan(config, data_source, *columns, latest_only=True)
        return RangeJob(config.offline_store.connect, scan, start_date, end_date)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RangeJob:
        """All rows in [start_date, end_date]."""
        columns = (join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column)
        scan = _scan(config, data_source, *columns, latest_only=False)
        return RangeJob(config.offline_store.connect, scan, start_date or datetime.min, end_date or datetime.max)


def _scan(
    config: RepoConfig, source: DataSource, keys: list[str], columns: list[str], timestamp: str, created: str | None,
    *, latest_only: bool,
) -> RangeScan:  # fmt: skip
    return RangeScan(
        files=_path(config, _file_source(source)),
        keys=tuple(keys),
        columns=tuple(columns),
        timestamp=timestamp,
        created=created or None,
        latest_only=latest_only,
        created_until=config.offline_store.created_until,
    )


def _file_source(source: DataSource | None) -> FileSource:
    if not isinstance(source, FileSource) or not isinstance(source.file_format, ParquetFormat | None):
        raise ConfigError(f"source '{source and source.name}' is no Parquet file; AsofOfflineStore reads no other")
    return source


def _path(config: RepoConfig, source: FileSource) -> str:
    """A relative path is the repository's, as everywhere in Feast."""
    return source.get_uri_for_file_path(config.repo_path, source.path)


def _view_join(
    config: RepoConfig, view: FeatureView, feature_refs: list[str], full_feature_names: bool, hide_later_created: bool
) -> ViewJoin:
    """Read a Feast view's projection; ConfigError for what the join cannot serve."""
    source = _file_source(view.batch_source)
    stored = {new: old for old, new in source.field_mapping.items()}
    named = str(view.projection.name_to_use())  # type: ignore[no-untyped-call]
    prefix = f"{view.projection.name_alias or view.name}__" if full_feature_names else ""
    wanted = [ref.split(":", 1)[1] for ref in feature_refs if ref.split(":", 1)[0] == named]
    renamed = view.projection.join_key_map
    created = source.created_timestamp_column
    return ViewJoin(
        files=_path(config, source),
        keys={renamed.get(c.name, c.name): stored.get(c.name, c.name) for c in view.entity_columns},
        features={f"{prefix}{name}": stored.get(name, name) for name in wanted},
        timestamp=stored.get(source.timestamp_field, source.timestamp_field),
        created=stored.get(created, created) if created else None,
        ttl=view.ttl,
        hide_later_created=hide_later_created,
        created_until=config.offline_store.created_until,
    )
