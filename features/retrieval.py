"""From journeys to tables a model can read: what each journey and each item were known by, at its time.

training_table.parquet gets the features as of t_obs. items.parquet describes the catalogue as of the end of
the logs: it is for reports and allocation, and its author__ and item__ columns are no training features,
since they know what happened after a journey. uploads.parquet, where the logs embed uploads, holds what the labels
uploaded: the outcome's content, never a feature.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureStore
from feast.diff.property_diff import TransitionType
from feast.feast_object import FeastObject
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from features.contract import EARLIEST_SENSIBLE
from features.definitions import ACTIVITY_FEATURES, ITEM_SERVICE, SERVICE, Definitions, define, store_config
from features.duck import parquet_sql, parquet_view, session, write_parquet
from features.encoding import fit_column
from features.errors import ConfigError
from features.files import atomic_dir, read_json, write_json
from features.journey_files import part_glob, positioned_touches
from features.reader import Logs
from features.sources import make_catalogue, write_sources

logger = logging.getLogger(__name__)

_COMPARED = ("responses", "controls", "embedding_dim")


def retrieve_features(logs: Logs, journeys_dir: Path, store_dir: Path, out: Path) -> None:
    """Write training_table.parquet, items.parquet and schema.json into the folder `out`, through Feast.

    Where the logs embed uploads, uploads.parquet (upload_id, embedding) too: the labels' uploads, and no others.
    store_dir keeps the feature store (sources, registry, online store); it is brought up to date first.
    Raises ConfigError when the journeys were built from other logs.
    """
    journeys_dir, store_dir, out = Path(journeys_dir), Path(store_dir), Path(out)
    built_from = read_json(journeys_dir / "manifest.json")["logs_fingerprint"]
    if built_from != logs.fingerprint:
        raise ConfigError(
            f"journeys in {journeys_dir} were built from logs {built_from[:12]}, these are "
            f"{logs.fingerprint[:12]} ({logs.root}): build the journeys again"
        )
    write_sources(logs, journeys_dir, store_dir / "sources")
    store = apply_definitions(logs, store_dir)
    with atomic_dir(out) as folder, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        _write_training_table(store, part_glob(journeys_dir, "journeys"), Path(scratch), folder)
        clusters = _write_items(store, logs, journeys_dir, Path(scratch), folder)
        if logs.has_upload_embeddings:
            _write_uploads(logs, part_glob(journeys_dir, "journeys"), Path(scratch), folder)
        write_json(folder / "schema.json", _schema(logs, folder / "training_table.parquet", clusters))


def apply_definitions(logs: Logs, store_dir: Path) -> FeatureStore:
    """Bring the registry under `store_dir` to the features of these logs; nothing is written if it agrees."""
    began = time.monotonic()
    store_dir.mkdir(parents=True, exist_ok=True)
    store = FeatureStore(config=store_config(store_dir))

    def fresh() -> Definitions:
        return define({p.name: p.dtype for p in logs.profile}, store_dir / "sources")

    with _quiet():
        difference, _, _ = store.plan(fresh().contents())
        changes = [
            d
            for d in difference.feast_object_diffs
            if d.transition_type != TransitionType.UNCHANGED and d.name != DUMMY_ENTITY_NAME
        ]
        if changes:
            wanted = fresh()
            names = {view.name for view in wanted.views}
            stale: list[FeastObject] = [v for v in store.list_feature_views() if v.name not in names]
            store.apply(wanted.objects(), objects_to_delete=stale, partial=not stale)
    logger.info("feature store: %d changes applied, %.1f s", len(changes), time.monotonic() - began)
    return store


def materialise(store_dir: Path, *, until: datetime | None = None) -> list[str]:
    """Load the latest profiles up to `until` (default: now) into the online store; the views it loaded."""
    store = FeatureStore(config=store_config(Path(store_dir)))
    views = [view.name for view in store.list_feature_views() if view.name == "profile"]
    if views:
        with _quiet():
            start = EARLIEST_SENSIBLE.replace(tzinfo=UTC)
            store.materialize(start, until or datetime.now(UTC), feature_views=views)
    return views


def _write_training_table(store: FeatureStore, journeys: Path, scratch: Path, folder: Path) -> None:
    """The journeys with the features of SERVICE as of t_obs, in the journeys' order."""
    began = time.monotonic()
    joined = scratch / "joined.parquet"
    _join(store, SERVICE, f"SELECT *, t_obs AS event_timestamp FROM {parquet_sql(journeys)}", joined)
    with session(scratch=scratch) as connection:
        parquet_view(connection, "joined", joined)
        query = "SELECT * EXCLUDE (event_timestamp) FROM joined ORDER BY journey_id"
        write_parquet(connection, query, folder / "training_table.parquet")
    logger.info("features: training table retrieved, %.1f s", time.monotonic() - began)


def _write_items(store: FeatureStore, logs: Logs, journeys_dir: Path, scratch: Path, folder: Path) -> list[int]:
    """The catalogue with the features of ITEM_SERVICE as of the end of the logs; its clusters, sorted."""
    began = time.monotonic()
    entities, joined = scratch / "items.parquet", scratch / "joined_items.parquet"
    with session(scratch=scratch) as connection:
        logs.register(connection)
        positioned_touches(connection, journeys_dir).create_view("touches")
        make_catalogue(connection, logs)
        query = "SELECT item_id, author_id, cluster_id, $at::TIMESTAMP AS event_timestamp FROM catalogue"
        write_parquet(connection, f"{query} ORDER BY item_id", entities, {"at": logs.latest_ts})
        _join(store, ITEM_SERVICE, f"SELECT * FROM {parquet_sql(entities)}", joined)
        parquet_view(connection, "joined", joined)
        write_parquet(connection, _items_query(logs), folder / "items.parquet")
        clusters = _clusters(connection)
    logger.info("features: items retrieved, %.1f s", time.monotonic() - began)
    return clusters


def _write_uploads(logs: Logs, journeys: Path, scratch: Path, folder: Path) -> None:
    """The embedding of every upload that labels a journey, where it has one."""
    with session(scratch=scratch) as connection:
        logs.register(connection)
        parquet_view(connection, "journeys", journeys)
        query = (
            "SELECT upload_id, embedding FROM uploads SEMI JOIN journeys USING (upload_id) "
            "WHERE embedding IS NOT NULL ORDER BY upload_id"
        )
        write_parquet(connection, query, folder / "uploads.parquet")


def _items_query(logs: Logs) -> str:
    keys = "item_id, author_id, cluster_id"
    features = f"joined.* EXCLUDE ({keys}, event_timestamp)"
    if logs.has_item_embeddings:
        source = "joined JOIN (SELECT item_id, embedding FROM items) USING (item_id)"
        return f"SELECT {keys}, embedding, {features} FROM {source} ORDER BY item_id"
    return f"SELECT {keys}, {features} FROM joined ORDER BY item_id"


def _clusters(connection: duckdb.DuckDBPyConnection) -> list[int]:
    """Every cluster of the touches and the catalogue, sorted."""
    query = "SELECT cluster_id FROM touches UNION SELECT cluster_id FROM catalogue ORDER BY cluster_id"
    return [row[0] for row in connection.execute(query).fetchall()]


def _join(store: FeatureStore, service: str, entity_sql: str, path: Path) -> None:
    job = store.get_historical_features(
        entity_df=entity_sql, features=store.get_feature_service(service), full_feature_names=True
    )
    job.persist(SavedDatasetFileStorage(path=str(path)))


def _schema(logs: Logs, training_table: Path, clusters: list[int]) -> dict[str, Any]:
    """The content of schema.json."""
    kinds = {p.name: "categorical" if p.dtype == "VARCHAR" else "numeric" for p in logs.profile}
    profile = []
    for name, kind in kinds.items():
        column = f"profile__{name}"
        table = pq.read_table(training_table, columns=["split", column], read_dictionary=[column])
        fitted = table.filter(pc.equal(table["split"], "fit"))[column].to_pandas()
        profile.append(fit_column(column, fitted, kind))
    schema: dict[str, Any] = {
        "responses": list(logs.responses),
        "profile": profile,
        "controls": ["n_control", "n_days_covered", *(f"activity__{name}" for name in ACTIVITY_FEATURES)],
        "embedding_dim": logs.embedding_dim,
        "has_upload_embeddings": logs.has_upload_embeddings,
        "has_randomised": logs.has_randomised,
        "clusters": clusters,
    }
    return {**schema, "feature_schema_hash": schema_hash(schema)}


def schema_hash(schema: dict[str, Any]) -> str:
    """SHA-256 over what two models must share to score the same table: responses, controls, D and profile columns.

    Statistics, categories and clusters are not in it: they are fitted, and every bundle carries its own.
    """
    layout = {name: schema[name] for name in _COMPARED}
    layout["profile"] = [{name: spec[name] for name in ("column", "kind")} for spec in schema["profile"]]
    canonical = json.dumps(layout, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Feast prints its progress; it goes to the log instead."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield
    logger.debug("feast: %s", printed.getvalue().strip())
