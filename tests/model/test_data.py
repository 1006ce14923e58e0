from __future__ import annotations

import functools
import operator

import pyarrow.parquet as pq
import torch
from small_world import Prepared

from model.data import EpochBatches, load_journeys


def test_a_batch_is_the_journeys_own_touches(prepared: Prepared) -> None:
    table = load_journeys(prepared.journeys, prepared.data)
    touches = pq.read_table(prepared.journeys / "touches.parquet").to_pandas()
    rows = torch.tensor([0, 7, len(table.keys) - 1])
    batch = table.batch(rows)
    for b, row in enumerate(rows.tolist()):
        offset, length = int(table.offset_J[row]), int(table.length_J[row])
        mine = touches.iloc[offset : offset + length]
        assert int(batch.treatment.mask_BL[b].sum()) == length
        assert (mine["user_id"] == table.keys["user_id"].iloc[row]).all()
        gap = (table.keys["t_obs"].iloc[row].tz_localize(None) - mine["ts"].dt.tz_localize(None)).dt.total_seconds()
        torch.testing.assert_close(
            batch.treatment.gap_hours_BL[b, :length].double(), torch.tensor(gap.to_numpy() / 3600), atol=1e-4, rtol=1e-5
        )
        watch = batch.response_BLR[b, :length, table.sizes.responses.index("watch_ratio")]
        torch.testing.assert_close(watch, torch.tensor(mine["watch_ratio"].to_numpy()))
        assert float(batch.treatment.gap_hours_BL[b, length - 1]) == 0


def test_epochs_are_reproducible_and_differ() -> None:
    rows = torch.arange(100)

    def epoch(number: int) -> list[list[int]]:
        batches = EpochBatches(rows, batch_size=32, seed=5, shuffle=True)
        batches.set_epoch(number)
        return list(batches)

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1)
    assert len(epoch(0)) == 3


def test_ranks_share_an_epoch_without_loss_or_doubles() -> None:
    rows = torch.arange(96)
    ranks = [
        [
            row
            for batch in EpochBatches(rows, batch_size=16, seed=1, shuffle=True, rank=r, world_size=3)
            for row in batch
        ]
        for r in range(3)
    ]
    assert sorted(functools.reduce(operator.iadd, ranks, [])) == rows.tolist()


def test_evaluation_batches_cover_every_row_in_order() -> None:
    rows = torch.arange(10)
    assert functools.reduce(operator.iadd, EpochBatches(rows, batch_size=4, seed=0, shuffle=False), []) == rows.tolist()
