"""What a bundle remembers of its inputs, and how later logs are counted in the same bins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_world import Prepared
from tiny_model import Trained

from features.files import read_json
from model.attribution import attribute
from model.bundle import load_bundle
from model.data import JourneyTable, load_journeys
from model.snapshot import take_snapshot
from validation.data_quality import validate_training_table


@pytest.fixture(scope="module")
def table(prepared: Prepared) -> JourneyTable:
    return load_journeys(prepared.journeys, prepared.data)


def test_histograms_are_of_the_fit_split(table: JourneyTable) -> None:
    snapshot, fit_J = take_snapshot(table), table.split("fit")
    position_BL, mask_BL = table.positions(fit_J)
    position_N = position_BL[mask_BL]
    assert snapshot["journeys"] == len(fit_J)
    clusters_K = np.bincount(table.touch_cluster_N[position_N].numpy(), minlength=len(table.schema["clusters"]) + 2)
    assert snapshot["clusters"]["cluster"] == clusters_K.tolist()
    liked_N = table.response_NR[position_N, table.schema["responses"].index("liked")]
    assert snapshot["edges"]["liked"] == [0.0]
    assert snapshot["responses"]["liked"] == [int((liked_N == 0).sum()), int((liked_N == 1).sum()), 0]
    watch = snapshot["responses"]["watch_ratio"]
    assert sum(watch) == len(position_N)
    assert max(watch[:10]) < 1.2 * min(watch[:10])


def test_every_encoded_profile_column_has_a_histogram(table: JourneyTable) -> None:
    snapshot = take_snapshot(table)
    assert len(snapshot["profile"]) == table.profile_JP.shape[1]
    assert "profile__region = north" in snapshot["profile"]
    assert {sum(counts) for counts in snapshot["profile"].values()} == {len(table.split("fit"))}


def test_later_logs_are_counted_in_the_same_bins(table: JourneyTable) -> None:
    """Values above all of training's fall into the last bin, missing ones have a bin of their own."""
    then = take_snapshot(table)
    response_NR = torch.ones_like(table.response_NR)
    response_NR[::2] = torch.nan
    now = take_snapshot(replace(table, response_NR=response_NR), then["edges"])
    assert now["edges"] == then["edges"]
    counts = now["responses"]["watch_ratio"]
    assert len(counts) == len(then["responses"]["watch_ratio"])
    assert sum(counts[:-2]) == 0
    assert counts[-1] > 0
    assert now["clusters"] == then["clusters"]


def test_logs_without_profiles_have_no_profile_histograms(table: JourneyTable) -> None:
    bare = replace(table, schema=table.schema | {"profile": []}, profile_JP=torch.zeros((len(table.keys), 1)))
    assert take_snapshot(bare)["profile"] == {}


def test_the_bundle_keeps_it_and_attribution_counts_these_logs_beside_it(
    prepared: Prepared, trained: Trained, table: JourneyTable, tmp_path: Path
) -> None:
    snapshot = load_bundle(trained.bundle).snapshot
    assert snapshot == take_snapshot(table)
    places = {"model_dir": trained.bundle, "journeys_dir": prepared.journeys, "data_dir": prepared.data}
    attribute(**places, out=tmp_path / "credits", champion_dir=trained.bundle)
    both = read_json(tmp_path / "credits" / "summary.json")["snapshots"]
    assert both["champion"] == both["logs"] == snapshot
    attribute(**places, out=tmp_path / "alone")
    assert read_json(tmp_path / "alone" / "summary.json")["snapshots"] == {}


def test_the_training_table_is_checked_against_the_bundle(prepared: Prepared, trained: Trained, tmp_path: Path) -> None:
    """As written by training: what the model was fitted on has not drifted from itself."""
    report = validate_training_table(prepared.journeys, prepared.data, tmp_path / "quality", champion=trained.bundle)
    (touches,) = (suite for suite in report.suites if suite.suite == "touches")
    assert not [warning for warning in touches.warnings if "when the champion was fitted" in warning]
    page = "".join(file.read_text() for file in (tmp_path / "quality" / "data_docs").rglob("*.html"))
    assert "when the champion was fitted" in page
