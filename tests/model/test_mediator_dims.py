"""A mediator of two dimensions, from fit to ONNX, marginalised over the nearest of the bank."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from made_table import made_table
from safetensors.numpy import load_file
from tiny_model import TINY_TRAIN

from model.attribution import Credits, front_door_scorer
from model.bundle import load_bundle, save_bundle
from model.score_graph import INPUTS, OUTPUTS
from model.settings import ModelConfig
from model.train import FittedFrontDoor, fit_front_door

MATCHES = 12


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> FittedFrontDoor:
    config = ModelConfig(hidden=8, bank=32, mediator_dims=2, bank_matches=MATCHES, attention_heads=2)
    return fit_front_door(made_table(users=200), config, TINY_TRAIN, tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def credits(fitted: FittedFrontDoor) -> Credits:
    with torch.no_grad():
        return front_door_scorer(fitted.model, fitted.bank)(fitted.table.batch(fitted.table.split("judge")))


def test_credits_are_finite_and_abstain_on_few_matches(credits: Credits) -> None:
    for name, value in vars(credits).items():
        assert value.isfinite().all(), name
    assert credits.delta_BL.abs().max() > 0
    assert (credits.overlap_ess_B <= MATCHES + 1e-3).all()
    torch.testing.assert_close(credits.shapley_BL.sum(1), credits.p_do_B - credits.p_do_none_B, atol=1e-5, rtol=0)


def test_shapley_is_left_out_on_request(fitted: FittedFrontDoor, credits: Credits) -> None:
    with torch.no_grad():
        scorer = front_door_scorer(fitted.model, fitted.bank, with_shapley=False)
        quick = scorer(fitted.table.batch(fitted.table.split("judge")))
    assert (quick.shapley_BL == 0).all()
    assert torch.equal(quick.delta_BL, credits.delta_BL)


def test_every_dimension_is_denoised(fitted: FittedFrontDoor) -> None:
    denoise = fitted.model.denoise
    for name in ("reliability_K", "within_variance_K", "level_variance_K"):
        assert denoise.get_buffer(name).shape == (2,)
    assert (denoise.get_buffer("within_variance_K") != 1).all()
    assert len(fitted.calibration.reliability) == 2
    epochs = [row["epoch"] for row in fitted.history]
    assert epochs == list(range(1, len(epochs) + 1))


def test_the_bundle_scores_as_torch_does(fitted: FittedFrontDoor, tmp_path: Path) -> None:
    save_bundle(
        tmp_path / "bundle", model=fitted.model, bank=fitted.bank, schema=fitted.table.schema,
        catalogue=fitted.table.catalogue, history=fitted.history, calibration=asdict(fitted.calibration),
    )  # fmt: skip
    loaded = load_bundle(tmp_path / "bundle")
    assert loaded.calibration == asdict(fitted.calibration)
    for name, value in fitted.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name
    golden = load_file(tmp_path / "bundle" / "golden.safetensors")
    session = onnxruntime.InferenceSession(tmp_path / "bundle" / "score.onnx")
    got = session.run(list(OUTPUTS), {name: golden[name] for name in INPUTS})
    for name, value in zip(OUTPUTS, got, strict=True):
        np.testing.assert_allclose(value, golden[name], atol=1e-5)
