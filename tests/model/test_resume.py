"""A fit that dies goes on at the next step and ends with the bits of one that did not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from made_table import made_table
from tiny_model import TINY_MODEL, TINY_TRAIN
from torch import Tensor, nn

from model.baselines.naive import NaiveModel
from model.batch import JourneyBatch
from model.callbacks import Continuation, EpochMeans, WholeCheckpoints
from model.data import JourneyTable
from model.feed import EpochBatches
from model.module import FrontDoorModule, NaiveModule, plan_schedule
from model.settings import TrainConfig
from model.train import fit, front_door_module

EVERY_STEP = 1e-9
"""Minutes between checkpoints."""
CONFIG = replace(TINY_TRAIN, batch_size=64, max_epochs=3, min_steps=1, checkpoint_minutes=EVERY_STEP)
TABLE = made_table(users=200)
STEPS_AN_EPOCH = 4


class Killed(Exception):
    pass


class KillAt(Callback):
    """Dies where the step begins, or where an epoch's validation does."""

    def __init__(self, step: int, *, validating: bool = False) -> None:
        self.step, self.validating = step, validating

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not self.validating:
            raise Killed

    def on_validation_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and self.validating:
            raise Killed


class _Drawing(NaiveModel):
    """A network that draws random numbers while it is trained, from the generator that everything shares."""

    def forward(self, batch: JourneyBatch) -> Tensor:
        logit_B = super().forward(batch)
        return logit_B + 0.3 * torch.randn_like(logit_B) if self.training else logit_B


def naive(config: TrainConfig, table: JourneyTable = TABLE) -> NaiveModule:
    lightning.seed_everything(1, verbose=False)
    return NaiveModule(_Drawing(TINY_MODEL, table.sizes), config, plan_schedule(config, len(table.split("fit"))))


def front_door(config: TrainConfig, table: JourneyTable = TABLE) -> FrontDoorModule:
    return front_door_module(table, TINY_MODEL, config)


def fitted(module: Any, folder: Path, *callbacks: Callback) -> tuple[dict[str, Tensor], list[dict[str, float]], float]:
    history, loss = fit("test", module, TABLE, folder, callbacks)
    return module.state_dict(), history, loss


def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return all(torch.equal(value, b[0][name]) for name, value in a[0].items()) and a[1:] == b[1:]


def last_step(folder: Path) -> int:
    return int(torch.load(folder / "last.ckpt", weights_only=True)["global_step"])


@pytest.mark.parametrize("build", [front_door, naive])
def test_a_fit_that_dies_again_and_again_ends_as_one_that_did_not(build: Any, tmp_path: Path) -> None:
    """At the first step, within, before the last step of an epoch, between epochs, before a validation, twice in one
    epoch: weights, curves and loss to the bit."""
    whole = fitted(build(CONFIG), tmp_path / "whole")
    assert len(whole[1]) == 3
    deaths = [KillAt(1), KillAt(3), KillAt(4, validating=True), KillAt(4), KillAt(6), KillAt(7), KillAt(9)]
    for death in deaths:
        with pytest.raises(Killed):
            fitted(build(CONFIG), tmp_path / "killed", death)
        validated = death.validating  # the last step of an epoch is not checkpointed before its validation
        assert last_step(tmp_path / "killed") == death.step - validated
    assert same(fitted(build(CONFIG), tmp_path / "killed"), whole)


def test_without_checkpoints_within_epochs_a_fit_goes_back_to_the_last_one(tmp_path: Path) -> None:
    config = replace(CONFIG, checkpoint_minutes=0.0)
    whole = fitted(naive(config), tmp_path / "whole")
    with pytest.raises(Killed):
        fitted(naive(config), tmp_path / "killed", KillAt(6))
    assert last_step(tmp_path / "killed") == STEPS_AN_EPOCH
    assert same(fitted(naive(config), tmp_path / "killed"), whole)


@pytest.mark.parametrize("step", [5, 9, 10])
def test_a_stop_that_was_decided_is_kept(step: int, tmp_path: Path) -> None:
    """Patience ends with the second epoch, training at min_steps, in the middle of the third."""
    config = replace(CONFIG, max_epochs=9, min_steps=10, patience=1, learning_rate=1e-12)
    whole = fitted(naive(config), tmp_path / "whole")
    assert len(whole[1]) == 3, "stopped within the third epoch of nine"
    with pytest.raises(Killed):
        fitted(naive(config), tmp_path / "killed", KillAt(step, validating=step == 10))
    assert same(fitted(naive(config), tmp_path / "killed"), whole)


def test_a_fit_that_dies_before_it_is_marked_as_done_trains_no_further(tmp_path: Path) -> None:
    config = replace(CONFIG, max_epochs=9, patience=1, learning_rate=1e-12)
    whole = fitted(naive(config), tmp_path)
    (tmp_path / "done.json").unlink()
    assert same(fitted(naive(config), tmp_path, KillAt(last_step(tmp_path))), whole)


def test_a_network_of_another_order_of_batches_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests above rest on: a resumed epoch that begins anew gives other weights."""
    whole = fitted(naive(CONFIG), tmp_path / "whole")
    with pytest.raises(Killed):
        fitted(naive(CONFIG), tmp_path / "killed", KillAt(6))
    monkeypatch.setattr(EpochBatches, "load_state_dict", lambda *_: None)
    assert not same(fitted(naive(CONFIG), tmp_path / "killed"), whole)


def test_every_process_goes_on_with_its_own_random_numbers() -> None:
    with torch.random.fork_rng(devices=[]):
        states, following = [], []
        for rank in range(2):
            torch.manual_seed(rank)
            states.append(torch.get_rng_state())
            following.append(torch.rand(3))
        checkpoint = {"continuation": {"random": torch.stack(states), "stop": True}}
        for rank in range(2):
            strategy = SimpleNamespace(root_device=torch.device("cpu"))
            trainer: Any = SimpleNamespace(global_rank=rank, strategy=strategy, should_stop=False)
            Continuation().on_load_checkpoint(trainer, lightning.LightningModule(), checkpoint)
            assert trainer.should_stop
            assert torch.equal(torch.rand(3), following[rank])


def test_means_weigh_journeys_and_travel() -> None:
    """(3 · 1 + 1 · 5) / 4 = 2, half of it before the state was saved."""

    class Logged(nn.Module):
        def log_dict(self, values: dict[str, Tensor], batch_size: int) -> None:
            self.values, self.batch_size = values, batch_size

    def step(means: EpochMeans, loss: float, journeys: int) -> None:
        batch = TABLE.batch(torch.arange(journeys))
        means.on_train_batch_end(None, None, {"loss": torch.tensor(loss)}, batch, 0)

    before, after, module = EpochMeans(), EpochMeans(), Logged()
    step(before, 1.0, 3)
    after.load_state_dict(before.state_dict())
    step(after, 5.0, 1)
    after.on_train_epoch_end(None, module)  # type: ignore[arg-type]
    assert module.values == {"train_loss": torch.tensor(2.0)}
    step(after, 7.0, 2)
    after.on_train_epoch_end(None, module)  # type: ignore[arg-type]
    assert module.values == {"train_loss": torch.tensor(7.0)}, "an epoch begins at nothing"


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    io, path = WholeCheckpoints(), tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        io.save_checkpoint({"step": lambda: None}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
