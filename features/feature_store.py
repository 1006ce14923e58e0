"""The Feast store under a folder: brought up to date, asked for a service's features, materialised.

Feast prints its progress; here it goes to the log.
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from feast import FeatureStore
from feast.diff.property_diff import TransitionType
from feast.feast_object import FeastObject
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from features.contract import EARLIEST_SENSIBLE
from features.definitions import Definitions, define, store_config
from features.reader import Logs

logger = logging.getLogger(__name__)

SOURCES = "sources"
"""Folder of the sources' files in the store's."""


def apply_definitions(logs: Logs, store_dir: Path) -> None:
    """Bring the registry under `store_dir` to the features of these logs; nothing is written if it agrees."""
    began = time.monotonic()
    store_dir.mkdir(parents=True, exist_ok=True)
    store = FeatureStore(config=store_config(store_dir))

    def fresh() -> Definitions:
        return define({p.name: p.dtype for p in logs.profile}, store_dir / SOURCES)

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


def join_features(store_dir: Path, service: str, entity_sql: str, path: Path) -> None:
    """Write the entities with the service's features as of their `event_timestamp` to the Parquet file `path`.

    Rows come in any order; columns are the entities', then view__feature.
    """
    store = FeatureStore(config=store_config(store_dir))
    job = store.get_historical_features(
        entity_df=entity_sql, features=store.get_feature_service(service), full_feature_names=True
    )
    job.persist(SavedDatasetFileStorage(path=str(path)))


def materialise(store_dir: Path, *, until: datetime | None = None) -> list[str]:
    """Load the latest profiles up to `until` (default: now) into the online store; the views it loaded."""
    store = FeatureStore(config=store_config(Path(store_dir)))
    views = [view.name for view in store.list_feature_views() if view.name == "profile"]
    if views:
        with _quiet():
            start = EARLIEST_SENSIBLE.replace(tzinfo=UTC)
            store.materialize(start, until or datetime.now(UTC), feature_views=views)
    return views


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield
    logger.debug("feast: %s", printed.getvalue().strip())
