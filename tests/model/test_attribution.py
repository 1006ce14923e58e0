from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from small_world import Prepared
from tiny_model import TINY_MODEL, TINY_TRAIN, Trained

from features.errors import BundleError
from features.files import read_json, write_json
from model.attribution import attribute
from model.baselines.last_touch import last_touch
from model.baselines.naive import NaiveModel, leave_one_out
from model.bundle import load_bundle, save_bundle, verify_bundle
from model.data import load_journeys
from model.evidence import with_evidence
from model.settings import ModelConfig
from model.train import fit_front_door

COLUMNS = [
    "user_id", "t_obs", "item_id", "author_id", "cluster_id", "ts", "delta", "shapley", "share", "uplift_total",
    "stderr", "overlap_ess", "abstained", "label",
]  # fmt: skip


@pytest.fixture(scope="module")
def credits(prepared: Prepared, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("credits") / "credits"
    attribute(
        model_dir=trained.bundle, journeys_dir=prepared.journeys, data_dir=prepared.data, out=out,
        champion_dir=trained.bundle, baselines_dir=trained.baselines,
    )  # fmt: skip
    return out


def read(folder: Path) -> pd.DataFrame:
    return pq.read_table(folder).to_pandas()


def test_one_row_a_touch_of_every_journey_in_key_order(prepared: Prepared, credits: Path) -> None:
    rows = read(credits / "attributions")
    journeys = read(prepared.data / "training_table")
    assert list(rows.columns) == COLUMNS
    assert len(rows) == journeys["length"].sum()
    assert not rows.duplicated(["user_id", "t_obs", "item_id", "ts"]).any()
    assert rows[["user_id", "t_obs", "ts"]].equals(
        rows[["user_id", "t_obs", "ts"]].sort_values(["user_id", "t_obs", "ts"])
    )
    assert rows.notna().all().all()


def test_interactions_are_of_two_touches_of_one_judged_journey(prepared: Prepared, credits: Path) -> None:
    """The older first; removing both costs what removing each does, less their interaction."""
    pairs, rows = read(credits / "interactions"), read(credits / "attributions")
    keys = ["user_id", "t_obs"]
    journeys = read(prepared.data / "training_table").query("split == 'judge'")
    possible = (journeys["length"] * (journeys["length"] - 1) // 2).clip(upper=3)
    assert len(pairs) == possible.sum()
    assert set(map(tuple, pairs[keys].to_numpy())) <= set(map(tuple, journeys[keys].to_numpy()))
    delta = rows.set_index([*keys, "item_id", "ts"])["delta"]
    older, newer = (
        delta.loc[pd.MultiIndex.from_frame(pairs[[*keys, *end]])].to_numpy()
        for end in (["item_id", "ts"], ["other_item_id", "other_ts"])
    )
    assert (pairs["ts"] <= pairs["other_ts"]).all()
    np.testing.assert_allclose(pairs["joint_delta"] + pairs["interaction"], older + newer, atol=2e-5)


def test_shares_and_shapley_add_up(credits: Path) -> None:
    rows = read(credits / "attributions")
    journeys = rows.groupby(["user_id", "t_obs"])
    np.testing.assert_allclose(journeys["shapley"].sum(), journeys["uplift_total"].first(), atol=1e-5)
    shares = journeys["share"].sum()
    assert (np.isclose(shares, 1, atol=1e-5) | np.isclose(shares, 0)).all()


def test_champion_of_the_same_bundle_has_the_same_credits(credits: Path) -> None:
    keys = ["user_id", "t_obs", "item_id", "ts"]
    both = read(credits / "champion").merge(read(credits / "attributions"), on=keys, suffixes=("_champion", ""))
    assert len(both) == len(read(credits / "champion")) > 0
    np.testing.assert_allclose(both["delta_champion"], both["delta"], atol=1e-6)
    assert not read_json(credits / "summary.json")["champion_incomparable"]


def test_last_touch_credits_the_last_touch_only(credits: Path) -> None:
    rows = read(credits / "baselines" / "last_touch")
    assert ((rows["delta"] == 1) == (rows["ts"] == rows["t_obs"])).all()
    assert last_touch(torch.tensor([[1.0, 1.0, 0.0]])).tolist() == [[0.0, 1.0, 0.0]]


def test_diagnostics_hold_every_judged_touch(prepared: Prepared, credits: Path) -> None:
    table = load_journeys(prepared.journeys, prepared.data)
    judge = table.split("judge")
    assert len(read(credits / "diagnostics" / "touches.parquet")) == int(table.length_J[judge].sum())
    journeys = read(credits / "diagnostics" / "journeys.parquet")
    assert journeys["p_obs"].between(0, 1).all()
    assert len(journeys) == len(judge)


@torch.no_grad()
def test_diagnostics_are_what_the_model_says(prepared: Prepared, trained: Trained, credits: Path) -> None:
    """e, m, u − r and R of the first judged journey, from networks and index themselves."""
    table = load_journeys(prepared.journeys, prepared.data)
    model, row = load_bundle(trained.bundle).model, table.split("judge")[:1]
    batch = with_evidence(model, table).batch(row)
    t, x_BP = batch.treatment, batch.profile_BP
    of_row = f"journey_id == {table.keys['journey_id'].iloc[int(row)]}"
    touches = read(credits / "diagnostics" / "touches.parquet").query(of_row)
    journey = read(credits / "diagnostics" / "journeys.parquet").query(of_row)
    u_BLK = model.index(batch.response_BLR) - model.get_buffer("reference_level_K")
    expected = {"e": model.effects(t, x_BP), "m": model.mediator(t, x_BP).mean(0).sum(-1), "u": u_BLK.sum(-1)}
    for name, value_BL in expected.items():
        np.testing.assert_allclose(touches[name], value_BL[0], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(journey["p_obs"], torch.sigmoid(model.outcome_logit(batch)), atol=1e-5)
    left_B = model.pooled_mediator(batch) - model.effects(t, x_BP).sum(1)
    np.testing.assert_allclose(journey["residual"], left_B, atol=1e-5)


def test_without_responses_credits_are_associational_and_abstain(
    prepared: Prepared, trained: Trained, tmp_path: Path
) -> None:
    shutil.copytree(prepared.data, tmp_path / "data")
    schema = read_json(tmp_path / "data" / "schema.json") | {"responses": [], "feature_schema_hash": "0" * 64}
    write_json(tmp_path / "data" / "schema.json", schema)
    table = load_journeys(prepared.journeys, tmp_path / "data")
    fitted = fit_front_door(table, TINY_MODEL, TINY_TRAIN, tmp_path / "checkpoints")
    assert fitted.calibration.source == "none"
    save_bundle(
        tmp_path / "bundle", model=fitted.model, bank=fitted.bank, schema=schema, catalogue=table.catalogue,
        history=fitted.history, calibration=asdict(fitted.calibration),
    )  # fmt: skip
    assert load_bundle(tmp_path / "bundle").schema["responses"] == []
    places = {"model_dir": tmp_path / "bundle", "journeys_dir": prepared.journeys, "data_dir": tmp_path / "data"}
    with pytest.raises(BundleError, match="no responses"):
        attribute(**places, out=tmp_path / "credits")
    attribute(**places, out=tmp_path / "credits", baselines_dir=trained.baselines, champion_dir=trained.bundle)
    assert not read_json(tmp_path / "credits" / "summary.json")["identified"]
    assert "other features" in read_json(tmp_path / "credits" / "summary.json")["champion_incomparable"]
    assert read(tmp_path / "credits" / "attributions")["abstained"].all()
    assert not (tmp_path / "credits" / "champion").exists()


def test_a_champion_of_an_older_format_stands_aside(
    prepared: Prepared, trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be loaded, which is said; a candidate of that format is refused; its bytes are verified as ever."""
    old = tmp_path / "old"
    shutil.copytree(trained.bundle, old)
    write_json(old / "manifest.json", read_json(old / "manifest.json") | {"format": 1})
    places = {"journeys_dir": prepared.journeys, "data_dir": prepared.data, "out": tmp_path / "credits"}
    attribute(model_dir=trained.bundle, champion_dir=old, **places)
    assert "another version" in read_json(tmp_path / "credits" / "summary.json")["champion_incomparable"]
    assert "it stands aside" in caplog.text
    assert not (tmp_path / "credits" / "champion").exists()
    with pytest.raises(BundleError, match="bundle format 1, this version reads format 2"):
        attribute(model_dir=old, **places)
    (old / "score.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"score\.onnx: missing or altered"):
        verify_bundle(old)


def test_naive_leave_one_out_equals_dropping_the_touch(prepared: Prepared) -> None:
    table = load_journeys(prepared.journeys, prepared.data)
    torch.manual_seed(0)
    naive = NaiveModel(ModelConfig(hidden=8), table.sizes)
    batch = table.batch(torch.arange(3))
    with torch.no_grad():
        delta_BL, p_B, _ = leave_one_out(naive, batch)
        t = batch.treatment
        without = {name: getattr(t, name)[:, 1:] for name in vars(t)}
        shorter = type(batch)(**(vars(batch) | {"treatment": type(t)(**without)}))
        torch.testing.assert_close(p_B - torch.sigmoid(naive(shorter)), delta_BL[:, 0])
