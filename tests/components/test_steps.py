"""The data steps, each called as a plain function on a small world."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from components.build_journeys import build_journeys
from components.promote import promote
from components.retrieve_features import retrieve_features
from components.validate_logs import validate_logs
from components.validate_training_table import validate_training_table
from features.errors import AllocatorError, BadLogsError, ConfigError
from validation.worlds import WORLDS, simulate


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "logs"
    simulate(WORLDS["logit"], 300, 1, folder)
    return folder


def _artifact(cls: type[Any], folder: Path, name: str) -> Any:
    return cls(name=name, uri=str(folder / name))


def test_logs_become_a_checked_training_table(logs: Path, tmp_path: Path) -> None:
    journeys, counts = _artifact(dsl.Dataset, tmp_path, "journeys"), _artifact(dsl.Metrics, tmp_path, "counts")
    build_journeys.python_func(str(logs), "", "", str(tmp_path / "work"), journeys, counts)
    assert counts.metadata["users"] == 300
    assert counts.metadata["journeys"] > 1000

    quality, summary = _artifact(dsl.Artifact, tmp_path, "quality"), _artifact(dsl.Markdown, tmp_path, "summary")
    validate_logs.python_func(str(logs), "", "", quality, summary)
    assert "| touchpoints |" in Path(summary.path).read_text()
    assert (Path(quality.path) / "data_docs" / "index.html").exists()

    data, store = _artifact(dsl.Dataset, tmp_path, "data"), _artifact(dsl.Artifact, tmp_path, "store")
    retrieve_features.python_func(str(logs), "", "", str(tmp_path / "work"), journeys, data, store)
    with closing(sqlite3.connect(Path(store.path) / "online.db")) as online:
        assert online.execute("SELECT count(*) FROM alm_mta_profile").fetchone()[0] > 300
    table_quality = _artifact(dsl.Artifact, tmp_path, "table_quality")
    config = f"registry: {{tracking_uri: 'sqlite:///{tmp_path}/mlflow.db'}}"
    table = _artifact(dsl.Markdown, tmp_path, "table")
    validate_training_table.python_func(config, journeys, data, table_quality, table)
    suites = json.loads((Path(table_quality.path) / "suites.json").read_text())
    assert {"suite", "success", "warnings"} == set(suites[0])


def test_a_mapping_reads_logs_with_other_names_and_without_it_they_are_refused(logs: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    renamed = tmp_path / "renamed"
    for table in ("touchpoints", "uploads"):
        (renamed / table).mkdir(parents=True)
        content = pq.read_table(logs / table / "part-0.parquet")
        names = ["video_id" if name == "item_id" else name for name in content.column_names]
        pq.write_table(content.rename_columns(names), renamed / table / "part-0.parquet")
    journeys, counts = _artifact(dsl.Dataset, tmp_path, "journeys"), _artifact(dsl.Metrics, tmp_path, "counts")
    with pytest.raises(BadLogsError, match="item_id"):
        build_journeys.python_func(str(renamed), "", "", str(tmp_path / "work"), journeys, counts)
    mapping = "contract: {mapping: {touchpoints: {item_id: video_id}}}"
    build_journeys.python_func(str(renamed), mapping, "", str(tmp_path / "work"), journeys, counts)
    assert counts.metadata["users"] == 300


def test_a_run_that_starts_after_its_slot_reads_what_was_logged_in_between(logs: Path, tmp_path: Path) -> None:
    journeys, counts = _artifact(dsl.Dataset, tmp_path, "journeys"), _artifact(dsl.Metrics, tmp_path, "counts")
    build_journeys.python_func(str(logs), "", "2001-01-15T00:00:00Z", str(tmp_path / "work"), journeys, counts)
    assert counts.metadata["users"] == 300


def test_an_unknown_key_of_a_section_ends_the_step(logs: Path, tmp_path: Path) -> None:
    journeys, counts = _artifact(dsl.Dataset, tmp_path, "journeys"), _artifact(dsl.Metrics, tmp_path, "counts")
    with pytest.raises(ConfigError, match="lookbak_days"):
        build_journeys.python_func(
            str(logs), "journeys: {lookbak_days: 3}", "", str(tmp_path / "work"), journeys, counts
        )


def test_the_champion_moves_only_to_the_bundle_that_is_served(tmp_path: Path) -> None:
    model = _artifact(dsl.Model, tmp_path, "model")
    model.metadata["sha256"] = "a" * 64
    with pytest.raises(AllocatorError, match=r"rolled back in the allocator .* the champion stays"):
        promote.python_func("", "2", "b" * 64, model)
