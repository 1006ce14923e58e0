from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lightning
import pytest
import torch
from made_table import made_table
from tiny_model import TINY_MODEL, TINY_TRAIN

from model.baselines.naive import NaiveModel
from model.feed import EpochBatches, JourneyData
from model.module import NaiveModule, plan_schedule
from model.train import fit

BATCH = 16


def sampler(rows: int, rank: int = 0, world_size: int = 1, epoch: int = 0) -> EpochBatches:
    lengths = torch.arange(rows) % 7 + 1
    batches = EpochBatches(
        torch.arange(rows), lengths, batch_size=BATCH, seed=5, rank=rank, world_size=world_size
    )  # fmt: skip
    batches.set_epoch(epoch)
    return batches


def taken(batches: Iterator[list[int]], count: int) -> list[list[int]]:
    return [next(batches) for _ in range(count)]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("rows", [16 * 6, 16 * 6 + 1, 16 * 7 - 1, 1_000])
def test_an_epoch_takes_every_row_once_but_the_tail(rows: int, world_size: int) -> None:
    """The tail is what fills no batch on every rank: rows mod (batch x ranks), another one each epoch."""
    left_out = []
    for epoch in (0, 1):
        ranks = [list(sampler(rows, rank, world_size, epoch)) for rank in range(world_size)]
        assert len({len(rank) for rank in ranks}) == 1, "ranks of different lengths would wait for each other for ever"
        seen = [row for rank in ranks for batch in rank for row in batch]
        assert len(set(seen)) == len(seen) == rows - rows % (BATCH * world_size)
        left_out.append(set(range(rows)) - set(seen))
    assert not left_out[0] or left_out[0] != left_out[1]


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_resumed_epoch_goes_on_at_the_next_batch_on_every_rank(world_size: int) -> None:
    """State of one rank, as a checkpoint holds it, loaded into all of them; the epoch after it is whole again."""
    epoch, count = 3, 4
    states = []
    for rank in range(world_size):
        begun = sampler(1_000, rank, world_size, epoch)
        taken(iter(begun), count)
        states.append(begun.state_dict())
    assert states == [{"epoch": epoch, "taken": count}] * world_size
    for rank in range(world_size):
        resumed = sampler(1_000, rank, world_size)
        resumed.load_state_dict(states[0])
        resumed.set_epoch(epoch)
        assert len(resumed) == 1_000 // (BATCH * world_size), "the length of a whole epoch"
        assert list(resumed) == list(sampler(1_000, rank, world_size, epoch))[count:]
        assert resumed.state_dict()["taken"] == len(resumed)
        resumed.set_epoch(epoch + 1)
        assert list(resumed) == list(sampler(1_000, rank, world_size, epoch + 1))


def test_a_state_holds_for_its_own_epoch_only() -> None:
    batches = sampler(100)
    batches.load_state_dict({"epoch": 0, "taken": 3})
    batches.set_epoch(1)
    assert list(batches) == list(sampler(100, epoch=1))


def test_a_fit_is_the_bare_loop_to_the_bit(tmp_path: Path) -> None:
    """Adam under one cycle with clipped gradients, written out: Lightning, loader and callbacks add no rounding."""
    table, config = made_table(users=200), TINY_TRAIN
    schedule = plan_schedule(config, len(table.split("fit")))
    lightning.seed_everything(1, verbose=False)
    fitted = NaiveModule(NaiveModel(TINY_MODEL, table.sizes), config, schedule)
    lightning.seed_everything(1, verbose=False)
    bare = NaiveModule(NaiveModel(TINY_MODEL, table.sizes), config, schedule)
    history, _ = fit("naive", fitted, table, tmp_path)

    configured: dict[str, object] = bare.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]  # type: ignore[index]
    loader = JourneyData(table, batch_size=schedule.batch_size, seed=config.seed).train_dataloader()
    states, means = [], []
    for epoch in range(schedule.epochs):
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        losses = []
        for batch in loader:
            loss = bare.losses(batch)[0]["loss"]
            optimizer.zero_grad()  # type: ignore[attr-defined]
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
            optimizer.step()  # type: ignore[attr-defined]
            scheduler.step()
            losses.append(float(loss.detach()))
        states.append({name: value.clone() for name, value in bare.state_dict().items()})
        means.append(sum(losses) / len(losses))
    best = min(range(len(history)), key=lambda epoch: history[epoch]["selection_outcome"])
    assert all(torch.equal(value, states[best][name]) for name, value in fitted.state_dict().items())
    assert [row["train_outcome"] for row in history] == pytest.approx(means, abs=2e-6)
