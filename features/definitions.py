"""The features as Feast knows them: entities, sources, views and services, in that order.

The services are the model's contract: `alm_mta_v1` is what a journey gets (by user_id), `alm_mta_items_v1`
what an item of the catalogue gets (by item_id and author_id). Profile columns differ between logs, so
everything is built by a function; Feast objects cannot be applied twice, so it is called for each use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, Project, RepoConfig, ValueType
from feast.feast_object import FeastObject
from feast.repo_contents import RepoContents
from feast.types import FeastType, Float64, Int64, String

PROJECT = "alm_mta"
SERVICE = "alm_mta_v1"
ITEM_SERVICE = "alm_mta_items_v1"
NEVER_EXPIRES = timedelta(0)

ACTIVITY_FEATURES = ("touches_7d", "touches_28d", "uploads_7d", "uploads_28d")
ITEM_FEATURES = ("has_embedding", "published_day")
AUTHOR_FEATURES = ("catalogue_items", "exposures_1d", "exposures_7d")
_TYPES: dict[str, FeastType] = {"BIGINT": Int64, "DOUBLE": Float64, "VARCHAR": String}


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """All Feast objects of one feature store."""

    entities: list[Entity]
    sources: list[FileSource]
    views: list[FeatureView]
    services: list[FeatureService]

    def contents(self) -> RepoContents:
        """The objects as Feast's plan takes them."""
        return RepoContents(
            projects=[Project(name=PROJECT)],
            data_sources=list(self.sources),
            feature_views=self.views,
            on_demand_feature_views=[],
            stream_feature_views=[],
            label_views=[],
            entities=self.entities,
            feature_services=self.services,
            permissions=[],
        )

    def objects(self) -> list[FeastObject]:
        """The objects as Feast's apply takes them."""
        return [*self.entities, *self.sources, *self.views, *self.services]


def define(profile: Mapping[str, str], sources: Path) -> Definitions:
    """Fresh Feast objects over the files in `sources` (`features/sources.py`).

    profile: column -> BIGINT, DOUBLE or VARCHAR, of users/; empty when the logs have no profiles.
    """
    user = _entity("user", "user_id", "who consumes and uploads")
    item = _entity("item", "item_id", "what is consumed")
    author = _entity("author", "author_id", "who made an item")

    views = [
        _view("activity", user, dict.fromkeys(ACTIVITY_FEATURES, "BIGINT"), sources),
        _view("item", item, dict.fromkeys(ITEM_FEATURES, "BIGINT"), sources),
        _view("author", author, dict.fromkeys(AUTHOR_FEATURES, "BIGINT"), sources),
    ]
    if profile:
        views.insert(0, _view("profile", user, profile, sources))

    by_name = {view.name: view for view in views}
    services = [
        FeatureService(name=SERVICE, features=[v for v in views if v.name in {"profile", "activity"}]),
        FeatureService(name=ITEM_SERVICE, features=[by_name["item"], by_name["author"]]),
    ]
    return Definitions(
        entities=[user, item, author],
        sources=[_source(view.name, sources) for view in views],
        views=views,
        services=services,
    )


def store_config(store_dir: Path) -> RepoConfig:
    """What feature_store.yaml would say: sqlite registry and online store under `store_dir`, ASOF offline store."""
    root = store_dir.resolve()
    return RepoConfig(
        project=PROJECT,
        provider="local",
        repo_path=root,
        registry={"registry_type": "sql", "path": f"sqlite:///{root / 'registry.db'}", "cache_ttl_seconds": 0},
        offline_store={"type": "features.asof_store.AsofOfflineStore", "temp_directory": str(root)},
        online_store={"type": "sqlite", "path": str(root / "online.db")},
        materialization={"pull_latest_features": True},
        entity_key_serialization_version=3,
    )


def _entity(name: str, key: str, description: str) -> Entity:
    return Entity(name=name, join_keys=[key], value_type=ValueType.INT64, description=description)


def _source(name: str, sources: Path) -> FileSource:
    return FileSource(
        name=f"{name}_source",
        path=str((sources / f"{name}.parquet").resolve()),
        timestamp_field="event_timestamp",
    )


def _view(name: str, entity: Entity, features: Mapping[str, str], sources: Path) -> FeatureView:
    fields = [Field(name=column, dtype=_TYPES[dtype]) for column, dtype in features.items()]
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=NEVER_EXPIRES,
        schema=[Field(name=entity.join_key, dtype=Int64), *fields],
        source=_source(name, sources),
        online=True,
    )
