from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.speed import training_feed
from benchmarks.speed.training_feed import NETWORKS, RESPONSES, Spread, bare_epoch, measure, write_tables
from model.data import load_journeys
from model.feed import JourneyData
from model.settings import TrainConfig
from model.train import fit, front_door_module


def test_tables_are_journeys_of_the_length_asked_for(tmp_path: Path) -> None:
    write_tables(tmp_path, journeys=60, touches=3, seed=1)
    table = load_journeys(tmp_path / "journeys", tmp_path / "data")
    assert table.length_J.tolist() == [3] * 60
    assert table.schema["responses"] == list(RESPONSES)
    positions, mask = table.positions(torch.arange(60))
    assert mask.all()
    assert sorted(positions.flatten().tolist()) == list(range(180)), "no two journeys share a touch"
    assert (table.batch(torch.arange(60)).treatment.gap_hours_BL[:, -1] == 0).all()
    assert (table.first_touch_J == torch.arange(60) // 2 * 6).all()


def test_both_loops_do_the_same_work(tmp_path: Path) -> None:
    """To the bit, but for the adversary, whose strength a module without a trainer cannot know."""
    write_tables(tmp_path, journeys=2_000, touches=3, seed=1)
    table = load_journeys(tmp_path / "journeys", tmp_path / "data")
    config = TrainConfig(max_epochs=1, min_steps=1, batch_size=128, accelerator="cpu", adversary_weight=0.0)
    ours, bare = (front_door_module(table, NETWORKS["smallest"], config) for _ in range(2))
    fit("epoch", ours, table, tmp_path / "checkpoints")
    bare_epoch(bare, list(JourneyData(table, batch_size=128, seed=config.seed).train_dataloader()))
    assert all(torch.equal(value, bare.state_dict()[name]) for name, value in ours.state_dict().items())


def test_a_measurement_counts_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_feed, "BATCH_SIZE", 64)
    threads = torch.get_num_threads()
    measured = measure(journeys=600, touches=4, repetitions=2)
    assert torch.get_num_threads() == threads
    assert (measured.journeys, measured.touches, measured.batch_size, measured.repetitions) == (600, 4, 64, 2)
    assert [epoch.network for epoch in measured.epochs] == ["smallest", "default"]
    smallest, default = measured.epochs
    assert smallest.parameters < default.parameters
    assert smallest.steps == default.steps >= 5
    shares = [share for e in measured.epochs for share in (e.cpu_share, e.wall_share, e.ready_cpu_share)]
    for spread in (measured.read, measured.feed, *shares):
        assert 0 < spread.least <= spread.median <= spread.most
    assert default.cpu_share.most >= default.bare_cpu_s.least / default.lightning_cpu_s.most
    assert default.ready_cpu_share.most >= default.ready_cpu_s.least / default.lightning_cpu_s.most


def test_a_spread_is_of_the_values() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, least=1.0, most=3.0)
