"""Responses that were not observed: gaps, touches that show nothing, logs that hold none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_table import made_table
from tiny_model import TINY_MODEL, TINY_TRAIN

from model.attribution import front_door_scorer
from model.data import JourneyTable
from model.train import fit_front_door


def with_gaps(share: float, responses: tuple[str, ...]) -> JourneyTable:
    """Each response of each touch is missing with this probability."""
    table = made_table(users=200, responses=responses)
    g = torch.Generator().manual_seed(3)
    gone_NR = torch.rand(table.response_NR.shape, generator=g) < share
    return replace(table, response_NR=table.response_NR.masked_fill(gone_NR, torch.nan))


@pytest.mark.parametrize(
    ("share", "responses"),
    [(0.5, ("watch_ratio", "liked")), (1.0, ("watch_ratio", "liked")), (0.5, ("liked",)), (0.0, ())],
    ids=["gaps", "all missing", "flags alone", "no responses"],
)
def test_a_fit_stays_finite(share: float, responses: tuple[str, ...], tmp_path: Path) -> None:
    table = with_gaps(share, responses)
    fitted = fit_front_door(table, TINY_MODEL, TINY_TRAIN, tmp_path)
    for name, value in fitted.model.state_dict().items():
        assert value.isfinite().all(), name
    batch = fitted.table.batch(table.split("judge"))
    with torch.no_grad():
        credits = front_door_scorer(fitted.model, fitted.bank)(batch)
        assert fitted.model.outcome_logit(batch).isfinite().all()
    for name, value in vars(credits).items():
        assert value.isfinite().all(), name


def test_logs_without_responses_have_one_stage_and_no_noise(tmp_path: Path) -> None:
    fitted = fit_front_door(made_table(users=100, responses=()), TINY_MODEL, TINY_TRAIN, tmp_path)
    assert not (tmp_path / "outcome").exists()
    assert fitted.calibration.source == "none"
    assert fitted.calibration.reliability == [None]


def test_without_denoising_the_outcome_is_that_of_the_joint_fit(tmp_path: Path) -> None:
    table = made_table(users=100)
    fitted = fit_front_door(table, replace(TINY_MODEL, denoise=False), TINY_TRAIN, tmp_path)
    assert not (tmp_path / "outcome").exists()
    batch = fitted.table.batch(torch.arange(20))
    with torch.no_grad():
        joint_B = fitted.model.joint_logit(batch, fitted.model.index(batch.response_BLR))
        torch.testing.assert_close(fitted.model.outcome_logit(batch), joint_B)
