"""From journeys to tables a model can read: what each journey and each item were known by, at its time.

training_table/ gets the features as of t_obs, in parts. items.parquet describes the catalogue as of the end of
the logs: it is for reports and allocation, and its author__ and item__ columns are no training features,
since they know what happened after a journey. uploads.parquet, where the logs embed uploads, holds what the labels
uploaded: the outcome's content, never a feature.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import feast
import pyarrow.compute as pc

from features.definitions import ACTIVITY_FEATURES, ITEM_SERVICE
from features.duck import parquet_sql, parquet_view, session, write_parquet
from features.encoding import fit_column
from features.errors import ConfigError
from features.feature_store import SOURCES, apply_definitions, join_features
from features.files import atomic_dir, read_json, write_json
from features.journey_files import TRAINING_TABLE, part_files, positioned_touches, read_parts
from features.parts import MANIFEST, fingerprint_of, is_built, kept, place_of_parts, seal
from features.reader import Logs
from features.shards import ShardConfig
from features.sources import make_catalogue, write_sources
from features.training_table import Retrieval, build_training_table

logger = logging.getLogger(__name__)

_COMPARED = ("responses", "controls", "embedding_dim")


def retrieve_features(
    logs: Logs,
    journeys_dir: Path,
    store_dir: Path,
    out: Path,
    *,
    shards: ShardConfig | None = None,
    work: Path | None = None,
) -> None:
    """Write training_table/, items.parquet, schema.json and manifest.json into the folder `out`, through Feast.

    Where the logs embed uploads, uploads.parquet (upload_id, embedding) too: the labels' uploads, and no others.
    store_dir keeps the feature store (sources, registry, online store); it is brought up to date first.
    shards: who retrieves the training table's parts, which are the journeys'. work: where finished ones are kept until
    all are there, so that a killed retrieval goes on (default: beside `out`). What is there already, of the same
    journeys and code, is not retrieved again.
    Raises ConfigError when the journeys were built from other logs.
    """
    began, journeys_dir, store_dir, out = time.monotonic(), Path(journeys_dir), Path(store_dir), Path(out)
    built = read_json(journeys_dir / MANIFEST)
    if built["logs_fingerprint"] != logs.fingerprint:
        raise ConfigError(
            f"journeys in {journeys_dir} were built from logs {built['logs_fingerprint'][:12]}, these are "
            f"{logs.fingerprint[:12]} ({logs.root}): build the journeys again"
        )
    fingerprint = fingerprint_of(built, libraries=(duckdb, feast))
    parts = place_of_parts(out, work, fingerprint[:16])
    write_sources(logs, journeys_dir, store_dir / SOURCES, fingerprint)
    apply_definitions(logs, store_dir)
    if is_built(out, fingerprint):
        logger.info("features: %s is up to date", out)
        return
    journeys = part_files(journeys_dir, "journeys")
    with kept(parts), atomic_dir(out) as folder, tempfile.TemporaryDirectory(prefix=".", dir=parts) as scratch:
        retrieval = Retrieval(journeys=journeys, store_dir=store_dir, fingerprint=fingerprint, parts=parts)
        build_training_table(retrieval, shards or ShardConfig(), folder)
        logger.info("features: training table retrieved, %.1f s", time.monotonic() - began)
        clusters = _write_items(store_dir, logs, journeys_dir, Path(scratch), folder)
        if logs.has_upload_embeddings:
            _write_uploads(logs, journeys, Path(scratch), folder)
        write_json(folder / "schema.json", _schema(logs, folder, clusters))
        seal(folder, fingerprint)


def _write_items(store_dir: Path, logs: Logs, journeys_dir: Path, scratch: Path, folder: Path) -> list[int]:
    """The catalogue with the features of ITEM_SERVICE as of the end of the logs; its clusters, sorted."""
    began = time.monotonic()
    entities, joined = scratch / "items.parquet", scratch / "joined_items.parquet"
    with session(scratch=scratch) as connection:
        logs.register(connection)
        positioned_touches(connection, journeys_dir).create_view("touches")
        make_catalogue(connection, logs)
        query = "SELECT item_id, author_id, cluster_id, $at::TIMESTAMP AS event_timestamp FROM catalogue"
        write_parquet(connection, f"{query} ORDER BY item_id", entities, {"at": logs.latest_ts})
        join_features(store_dir, ITEM_SERVICE, f"SELECT * FROM {parquet_sql(entities)}", joined)
        parquet_view(connection, "joined", joined)
        write_parquet(connection, _items_query(logs), folder / "items.parquet")
        clusters = _clusters(connection)
    logger.info("features: items retrieved, %.1f s", time.monotonic() - began)
    return clusters


def _write_uploads(logs: Logs, journeys: Sequence[Path], scratch: Path, folder: Path) -> None:
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


def _schema(logs: Logs, folder: Path, clusters: list[int]) -> dict[str, Any]:
    """The content of schema.json. folder: where training_table/ lies."""
    kinds = {p.name: "categorical" if p.dtype == "VARCHAR" else "numeric" for p in logs.profile}
    profile = []
    for name, kind in kinds.items():
        column = f"profile__{name}"
        table = read_parts(folder, TRAINING_TABLE, ["split", column], read_dictionary=[column])
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
