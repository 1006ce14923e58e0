"""The store as others would use it: a repository with a feature_store.yaml that names the class, and real Feast."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

pytestmark = pytest.mark.filterwarnings("ignore:On demand feature view is an experimental:RuntimeWarning")

T0 = datetime(2024, 1, 1)
HOUR = timedelta(hours=1)
YAML = """
project: shop
provider: local
registry: registry.db
entity_key_serialization_version: 3
offline_store:
  type: features.asof_store.AsofOfflineStore
  memory_limit: 500MB
  threads: 1
  {extra}
online_store:
  type: sqlite
  path: online.db
"""


def write(folder: Path, name: str, rows: dict[str, list[Any]]) -> None:
    stamps = {key: pa.timestamp("us") for key in ("ts", "written")}
    columns = {key: pa.array(values, stamps.get(key)) for key, values in rows.items()}
    pq.write_table(pa.table(columns), folder / name)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Prices of items (corrected once, an hour later), a user's age, and a rate that belongs to nobody."""
    (tmp_path / "data").mkdir()
    (tmp_path / "feature_store.yaml").write_text(YAML.format(extra=""))
    data = tmp_path / "data"
    write(data, "prices.parquet", {
        "item": [1, 1, 2], "ts": [T0, T0, T0], "written": [T0, T0 + HOUR, T0], "cents": [100, 90, 50],
    })  # fmt: skip
    write(data, "users.parquet", {"user_id": [7], "ts": [T0], "age": [30]})
    write(data, "rates.parquet", {"ts": [T0, T0 + 2 * HOUR], "rate": [1.0, 2.0]})
    return tmp_path


def objects() -> list[Any]:
    item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    prices = FeatureView(
        name="prices",
        entities=[item],
        ttl=3 * HOUR,
        schema=[Field(name="item_id", dtype=Int64), Field(name="price", dtype=Int64)],
        source=FileSource(
            name="prices_source",
            path="data/prices.parquet",
            timestamp_field="ts",
            created_timestamp_column="written",
            field_mapping={"item": "item_id", "cents": "price"},
        ),
    )
    profile = FeatureView(
        name="profile",
        entities=[user],
        ttl=timedelta(0),
        schema=[Field(name="user_id", dtype=Int64), Field(name="age", dtype=Int64)],
        source=FileSource(name="profile_source", path="data/users.parquet", timestamp_field="ts"),
    )
    rates = FeatureView(
        name="rates",
        entities=[],
        ttl=timedelta(0),
        schema=[Field(name="rate", dtype=Float64)],
        source=FileSource(name="rates_source", path="data/rates.parquet", timestamp_field="ts"),
    )
    asked = RequestSource(name="asked", schema=[Field(name="amount", dtype=Int64)])

    @on_demand_feature_view(sources=[prices, asked], schema=[Field(name="total", dtype=Int64)])
    def bill(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"total": inputs["price"] * inputs["amount"]})

    service = FeatureService(name="shop", features=[prices, profile, rates])
    return [item, user, prices, profile, rates, bill, service]


@pytest.fixture
def store(repository: Path) -> Iterator[FeatureStore]:
    opened = FeatureStore(repo_path=str(repository))
    opened.apply(objects())
    yield opened
    opened.teardown()


def entity_rows(*hours: int, item: int = 1) -> pd.DataFrame:
    moments = pd.to_datetime([T0 + hour * HOUR for hour in hours])
    return pd.DataFrame({"item_id": item, "user_id": 7, "amount": 2, "event_timestamp": moments})


def values(table: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    return sorted(zip(*(table[c].to_pylist() for c in ("event_timestamp", *columns)), strict=True))


def without_time(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [row[1:] for row in rows]


def test_a_service_of_several_entities(store: FeatureStore) -> None:
    """Item, user and nobody at 0 h, 2 h and 4 h: the price expires after 3 h, the second rate holds from 2 h on."""
    job = store.get_historical_features(entity_rows(0, 2, 4), store.get_feature_service("shop"))
    got = without_time(values(job.to_arrow(), "price", "age", "rate"))
    assert got == [(90, 30, 1.0), (90, 30, 2.0), (None, 30, 2.0)]


def test_what_was_written_later_can_be_hidden(store: FeatureStore, repository: Path) -> None:
    """The correction of hour 1 is not seen at 0 h; the store that stops at half past 0 never sees it."""
    asked = {"entity_df": entity_rows(0, 1), "features": ["prices:price"]}
    job = store.get_historical_features(**asked, filter_by_created_timestamp=True)
    assert without_time(values(job.to_arrow(), "price")) == [(100,), (90,)]
    (repository / "feature_store.yaml").write_text(YAML.format(extra="created_until: 2024-01-01T00:30:00Z"))
    then = FeatureStore(repo_path=str(repository))
    assert without_time(values(then.get_historical_features(**asked).to_arrow(), "price")) == [(100,), (100,)]
    then.materialize(T0, T0 + 2 * HOUR, feature_views=["prices"])
    served = then.get_online_features(features=["prices:price"], entity_rows=[{"item_id": 1}, {"item_id": 2}])
    assert served.to_dict()["price"] == [100, 50]


def test_on_demand_features_are_persisted_in_chunks(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five rows, two at a time; in the last chunk no price is known, yet the column keeps its type."""
    monkeypatch.setattr("features.duck_jobs.CHUNK_ROWS", 2)
    job = store.get_historical_features(
        entity_rows(0, 1, 2, 8, 9), ["bill:total", "profile:age"], full_feature_names=True
    )
    target = tmp_path / "bills.parquet"
    job.persist(SavedDatasetFileStorage(path=str(target)))
    got = pq.read_table(target)
    assert got.schema.field("bill__total").type == pa.int64()
    assert without_time(values(got, "bill__total", "profile__age")) == [(180, 30)] * 3 + [(None, 30)] * 2
    assert without_time(values(job.to_arrow(), "bill__total")) == [(180.0,)] * 3 + [(None,)] * 2


def test_join_keys_can_be_renamed(store: FeatureStore) -> None:
    service = FeatureService(
        name="pairs",
        features=[
            store.get_feature_view("prices").with_name("left").with_join_key_map({"item_id": "left_id"}),
            store.get_feature_view("prices").with_name("right").with_join_key_map({"item_id": "right_id"}),
        ],
    )
    store.apply([service])
    rows = pd.DataFrame({"left_id": [1, 2], "right_id": [2, 3], "event_timestamp": [T0, T0]})
    got = store.get_historical_features(rows, service, full_feature_names=True).to_arrow()
    assert sorted(zip(got["left__price"].to_pylist(), got["right__price"].to_pylist(), strict=True), key=str) == [
        (50, None),
        (90, 50),
    ]


def test_text_timestamps_are_read_as_utc(store: FeatureStore) -> None:
    rows = entity_rows(0).assign(event_timestamp=["2024-01-01T01:30:00+01:00"])
    assert without_time(values(store.get_historical_features(rows, ["prices:price"]).to_arrow(), "price")) == [(90,)]
