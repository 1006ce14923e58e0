"""Sampled negatives: which rows an epoch takes, on which rank, from where after a kill; and that no loss is shifted."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from made_table import made_model, made_table
from tiny_model import TINY_MODEL, TINY_TRAIN

from features.errors import ConfigError
from model.baselines.naive import NaiveModel
from model.data import JourneyTable
from model.feed import EpochBatches
from model.module import FrontDoorModule, NaiveModule, plan_schedule, plan_training
from model.sampling import draw, plan_prior
from model.settings import TrainConfig
from model.train import fit

SAMPLED = replace(TINY_TRAIN, negatives_per_positive=1.5)
DRAWS = 24


def test_sampling_draws_three_negatives_for_two_positives() -> None:
    label_J = (torch.arange(1000) % 10 == 0).float()
    drawn = draw(label_J, 1.5, torch.Generator().manual_seed(0))
    assert (int(label_J[drawn].sum()), len(drawn)) == (100, 250)
    assert len(set(drawn.tolist())) == 250
    assert drawn.tolist() != draw(label_J, 1.5, torch.Generator().manual_seed(1)).tolist()
    prior = plan_prior(label_J, 1.5)
    assert (prior.share, prior.sampled) == (0.1, 0.4)
    assert len(draw(label_J, 0, torch.Generator())) == 1000
    assert plan_prior(label_J, 0).offset == 0


@pytest.mark.parametrize("negatives_per_positive", [0.5, 1.5, 4.0])
def test_the_offset_keeps_the_prior(negatives_per_positive: float) -> None:
    """A logistic fit of y on x over the sample, its offset taken off, is the population's: same mean, same slope."""
    generator = torch.Generator().manual_seed(2)
    x_J = torch.randn(60_000, generator=generator, dtype=torch.float64)
    label_J = (torch.rand(60_000, generator=generator, dtype=torch.float64) < torch.sigmoid(x_J - 3)).double()
    drawn, prior = draw(label_J, negatives_per_positive, generator), plan_prior(label_J, negatives_per_positive)
    beta = torch.tensor([-2.0, 0.0], dtype=torch.float64)
    design_J2 = torch.stack([torch.ones_like(x_J), x_J], 1)
    for _ in range(12):
        p_S = torch.sigmoid(design_J2[drawn] @ beta + prior.offset)
        curvature = (design_J2[drawn] * (p_S * (1 - p_S))[:, None]).T @ design_J2[drawn]
        beta = beta + torch.linalg.solve(curvature, design_J2[drawn].T @ (label_J[drawn] - p_S))
    assert float(beta[0]) == pytest.approx(-3, abs=0.1)
    assert float(beta[1]) == pytest.approx(1, abs=0.06)
    assert float(torch.sigmoid(design_J2 @ beta).mean()) == pytest.approx(prior.share, rel=0.02)
    weight_S = prior.weight(label_J[drawn])
    assert float((weight_S * label_J[drawn]).sum() / weight_S.sum()) == pytest.approx(prior.share)


LABEL_J = (torch.arange(1_000) % 10 == 0).float()
"""100 positives: an epoch at 2:3 has 250 rows."""


def epoch(number: int, rank: int = 0, world_size: int = 1) -> EpochBatches:
    batches = EpochBatches(
        torch.arange(1_000), torch.arange(1_000) % 7, batch_size=25, seed=3, rank=rank, world_size=world_size,
        label_J=LABEL_J, negatives_per_positive=1.5,
    )  # fmt: skip
    batches.set_epoch(number)
    return batches


def test_an_epoch_takes_every_positive_and_other_negatives() -> None:
    first, again, second = ({row for batch in epoch(number) for row in batch} for number in (0, 0, 1))
    assert first == again
    assert len(epoch(0)) == 10
    for rows in (first, second):
        assert len(rows) == 250
        assert set(range(0, 1_000, 10)) <= rows
    assert len(first & second) < 100 + 75, "150 of 900 negatives: 25 are expected to come again"


def test_ranks_share_the_same_draw() -> None:
    ranks = [[row for batch in epoch(4, rank, 2) for row in batch] for rank in range(2)]
    assert [len(rank) for rank in ranks] == [125, 125]
    assert sorted(ranks[0] + ranks[1]) == sorted(row for batch in epoch(4) for row in batch)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_resumed_epoch_goes_on_in_its_own_draw(rank: int) -> None:
    resumed = epoch(0, rank, 2)
    resumed.load_state_dict({"epoch": 5, "taken": 2})
    resumed.set_epoch(5)
    assert list(resumed) == list(epoch(5, rank, 2))[2:]


def labelled() -> JourneyTable:
    """Uploads after journeys whose watch ratios differ most: every loss means another thing in a biased sample."""
    table = made_table(users=150)
    spread_J = table.response_NR[:, 0].reshape(-1, 4).std(1)
    return replace(table, label_J=(spread_J > spread_J.quantile(0.8)).float())


def losses(module: FrontDoorModule, table: JourneyTable, row_B: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a copy, with what it tracks."""
    module = copy.deepcopy(module).train()
    named, _ = module.losses(table.batch(row_B))
    tracked = {name: module.model.get_buffer(name)[0] for name in ("reference_level_K", "index_variance_K")}
    return {name: value.detach() for name, value in (named | tracked).items()}


def test_weighted_losses_have_the_expectation_of_the_whole() -> None:
    """Within 4 standard errors of the draws; without the weights each is far beyond them."""
    table, config = labelled(), replace(TINY_TRAIN, trusted_response="watch_ratio")
    row_J = table.split("fit")
    torch.manual_seed(0)
    whole = FrontDoorModule(made_model(table), config, plan_training(config, table.label_J[row_J]))
    assert whole.schedule.prior is None
    assert whole.weight(table.batch(row_J)) is None
    sampled = copy.deepcopy(whole)
    sampled.schedule = plan_training(replace(config, negatives_per_positive=0.5), table.label_J[row_J])
    generator, drawn = torch.Generator().manual_seed(1), []
    for _ in range(DRAWS):
        rows = row_J[draw(table.label_J[row_J], 0.5, generator)]
        drawn.append((losses(sampled, table, rows), losses(whole, table, rows)))
    expected = losses(whole, table, row_J)
    assert {"loss", "outcome", "mediator", "adversary"} < set(expected)
    for name, value in expected.items():
        weighted, plain = (torch.stack([pair[i][name] for pair in drawn]) for i in (0, 1))
        error = float(weighted.std()) / DRAWS**0.5
        assert abs(float(weighted.mean() - value)) < 4 * error + 1e-6, name
        if name in ("loss", "outcome", "mediator", "adversary", "index_variance_K"):
            assert abs(float(plain.mean() - value)) > 5 * error, name


def test_the_selection_split_is_not_weighted() -> None:
    table = labelled()
    module = FrontDoorModule(made_model(table), SAMPLED, plan_training(SAMPLED, table.label_J[table.split("fit")]))
    batch = table.batch(table.split("selection"))
    assert module.weight(batch) is not None
    assert module.eval().weight(batch) is None


def test_a_schedule_counts_the_sampled_journeys() -> None:
    config = replace(SAMPLED, batch_size=64)
    schedule = plan_training(config, LABEL_J)
    assert replace(schedule, prior=None) == plan_schedule(config, 250)
    assert schedule.prior == plan_prior(LABEL_J, 1.5)


class _KillAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


def test_a_sampled_fit_that_dies_ends_as_one_that_did_not(tmp_path: Path) -> None:
    table = made_table(users=200)
    config = replace(SAMPLED, batch_size=64, max_epochs=2, min_steps=1, checkpoint_minutes=1e-9)

    def fitted(folder: Path, *callbacks: Callback) -> dict[str, torch.Tensor]:
        lightning.seed_everything(1, verbose=False)
        schedule = plan_training(config, table.label_J[table.split("fit")])
        module = NaiveModule(NaiveModel(TINY_MODEL, table.sizes), config, schedule)
        fit("test", module, table, folder, callbacks)
        return module.state_dict()

    whole = fitted(tmp_path / "whole")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fitted(tmp_path / "killed", _KillAt(4))
    resumed = fitted(tmp_path / "killed")
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_a_negative_ratio_is_refused() -> None:
    with pytest.raises(ConfigError, match="negatives_per_positive"):
        TrainConfig(negatives_per_positive=-1.0)
