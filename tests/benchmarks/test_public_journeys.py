"""Splits keep users apart, peers see what they should, intervals are what they claim."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_world import Prepared
from torch import Tensor

from benchmarks import public_journeys as public
from features.files import read_json
from model.data import JourneyTable, load_journeys
from model.settings import TrainConfig


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def table(prepared: Prepared) -> JourneyTable:
    return load_journeys(prepared.journeys, prepared.data)


def test_splits_are_of_users_and_random(table: JourneyTable) -> None:
    one, other = (public.split_by_user(table, np.random.default_rng(seed)) for seed in (1, 2))
    assert one.keys.groupby("user_id")["split"].nunique().max() == 1
    shares = one.keys.drop_duplicates("user_id")["split"].value_counts(normalize=True)
    assert [shares[name] for name in ("fit", "selection", "judge")] == pytest.approx([0.7, 0.1, 0.2], abs=0.01)
    assert (one.keys["split"] != other.keys["split"]).mean() > 0.2
    assert one.keys.drop(columns="split").equals(table.keys.drop(columns="split"))


def test_features_of_a_journey_by_hand(table: JourneyTable) -> None:
    """Counts and last touch per cluster, length, hours since the first touch and the one before the last."""
    row = int(table.split("judge")[0])
    asked_F = public.features(table, torch.tensor([row])).asked_JF[0]
    first, length = int(table.offset_J[row]), int(table.length_J[row])
    cluster_L = table.touch_cluster_N[first : first + length].numpy()
    hours_L = (int(table.t_obs_J[row]) - table.touch_ts_N[first : first + length].numpy()) / 3_600_000_000
    K, Z = table.sizes.clusters, table.profile_JP.shape[1] + table.control_JC.shape[1]
    np.testing.assert_array_equal(asked_F[:K], np.bincount(cluster_L, minlength=K))
    dose_K = np.bincount(cluster_L, np.exp(-hours_L / 24), minlength=K)
    np.testing.assert_allclose(asked_F[K : 2 * K], dose_K)
    last_K, (log_length, *log_hours, alone) = np.split(asked_F[2 * K + Z :], [K + 1])
    assert last_K.argmax() == cluster_L[-1]
    assert last_K.sum() == 1
    assert log_length == pytest.approx(np.log(length))
    assert log_hours == pytest.approx([np.log1p(hours_L[0]), np.log1p(hours_L[-2])])
    assert alone == 0


@pytest.mark.parametrize("name", ["gradient boosting", "logistic regression"])
def test_peers_learn_from_the_fit_split_alone(table: JourneyTable, name: str) -> None:
    """They tell uploads on judged users, and flipping the judged labels changes nothing."""
    split = public.split_by_user(table, np.random.default_rng(3))
    row_J = split.split("judge")
    p_J = public.MODELS[name](split, row_J, 1)
    assert np.corrcoef(p_J, split.label_J[row_J])[0, 1] > 0.02
    flipped_J = split.label_J.clone()
    flipped_J[row_J] = 1 - flipped_J[row_J]
    np.testing.assert_array_equal(public.MODELS[name](replace(split, label_J=flipped_J), row_J, 1), p_J)


@pytest.mark.parametrize("name", ["LSTM with attention", "naive network, without n"])
def test_networks_read_what_they_should(table: JourneyTable, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probability a row; of all networks the naive one alone is blind to the controls."""
    few = TrainConfig(seed=1, max_epochs=1, min_steps=20, accelerator="cpu")
    monkeypatch.setattr(public, "_unhurried", lambda seed: replace(few, seed=seed))
    row_J = table.split("judge").flip(0)
    p_J = public.MODELS[name](table, row_J, 1)
    assert ((p_J > 0) & (p_J < 1)).all()
    assert p_J.shape == row_J.shape
    shuffled = replace(table, control_JC=table.control_JC.flip(0))
    same = np.array_equal(public.MODELS[name](shuffled, row_J, 1), p_J)
    assert same == (name == "naive network, without n")


def test_interval_by_hand() -> None:
    """Gains .01, .02, .03: sd .01; t_2(.975) = 4.3027; half = 4.3027 · .01 · √(1/3 + .2/.8) = .03287."""
    gain = public.paired_gain(np.array([0.01, 0.02, 0.03]))
    assert gain["mean"] == pytest.approx(0.02)
    assert gain["high"] - gain["mean"] == pytest.approx(0.03287, abs=1e-4)
    assert gain["mean"] - gain["low"] == pytest.approx(0.03287, abs=1e-4)


def test_results_of_a_whole_run(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rate(table: JourneyTable, row_J: Tensor, seed: int) -> np.ndarray:  # noqa: ARG001
        return np.full(len(row_J), float(table.label_J[table.split("fit")].mean()))

    monkeypatch.setattr(public, "MODELS", {public.OURS: public.MODELS["logistic regression"], "rate": rate})
    assert public.main(["--logs", str(prepared.logs), "--splits", "2", "--out", str(tmp_path)]) == 0
    result = read_json(tmp_path / "public_journeys.json")
    ours, guess = result["summary"]
    assert guess["auc"] == {"mean": 0.5, "sd": 0.0}
    assert guess["ours_minus_auc"]["mean"] == pytest.approx(ours["auc"]["mean"] - 0.5)
    assert [s["seed"] for s in result["scores"]] == [1, 1, 2, 2]
    assert json.dumps(result["history"])
    text = (tmp_path / "public_journeys.md").read_text()
    assert "AUC is no evidence of causality" in text
    assert f"| rate | 0.5000 ± 0.0000 | {guess['log_loss']['mean']:.4f}" in text


def test_bad_logs_are_refused(tmp_path: Path) -> None:
    assert public.main(["--logs", str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 1
