from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from made_table import made_table
from small_world import Prepared

from model.data import TouchEvidence, load_journeys
from model.feed import EpochBatches, selection_batches


def test_a_batch_is_the_journeys_own_touches(prepared: Prepared) -> None:
    table = load_journeys(prepared.journeys, prepared.data)
    touches = pq.read_table(prepared.journeys / "touches").to_pandas()
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


def epoch(
    rows: torch.Tensor, number: int = 0, *, lengths: torch.Tensor | None = None, **changes: int
) -> list[list[int]]:
    lengths = torch.ones(len(rows)) if lengths is None else lengths
    batches = EpochBatches(rows, lengths, **({"batch_size": 16, "seed": 5} | changes))  # type: ignore[arg-type]
    batches.set_epoch(number)
    assert len(list(batches)) == len(batches)
    return list(batches)


def test_epochs_are_reproducible_and_differ() -> None:
    rows = torch.arange(100)
    assert epoch(rows) == epoch(rows)
    assert epoch(rows, 0) != epoch(rows, 1)
    assert len(epoch(rows, batch_size=32)) == 3


def test_ranks_share_an_epoch_without_loss_or_doubles() -> None:
    rows = torch.arange(96)
    ranks = [epoch(rows, rank=rank, world_size=3) for rank in range(3)]
    assert sorted(row for rank in ranks for batch in rank for row in batch) == rows.tolist()


def test_journeys_of_like_length_share_a_batch() -> None:
    lengths = torch.arange(64) % 4 + 1
    batches = epoch(torch.arange(64), lengths=lengths)
    assert all(len({int(lengths[row]) for row in batch}) == 1 for batch in batches)


def test_too_few_rows_still_make_a_batch_on_every_rank() -> None:
    assert [len(batch) for batch in epoch(torch.arange(5), rank=1, world_size=2)] == [16]


def test_selection_batches_cover_every_row_once() -> None:
    rows, lengths = torch.arange(10), torch.tensor([3, 1, 2, 1, 1, 1, 1, 1, 1, 1])
    batches = selection_batches(rows, lengths, batch_size=4, rank=0, world_size=1)
    assert sorted(row for batch in batches for row in batch) == rows.tolist()
    assert batches[-1][-1] == 0, "longest last"
    ranks = [selection_batches(rows, lengths, batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    assert [len(rank) for rank in ranks] == [2, 2]


def test_first_touch_is_the_users_and_not_the_journeys(prepared: Prepared) -> None:
    table = load_journeys(prepared.journeys, prepared.data)
    user_N = pq.read_table(prepared.journeys / "touches")["user_id"].to_numpy()
    user_J, first_J = table.keys["user_id"].to_numpy(), table.first_touch_J.numpy()
    assert (user_N[first_J] == user_J).all()
    assert ((first_J == 0) | (user_N[first_J - 1] != user_J)).all()
    assert (first_J <= table.offset_J.numpy()).all()
    assert (first_J < table.offset_J.numpy()).any()


def test_random_exposures_are_those_that_the_logs_mark(prepared: Prepared, tmp_path: Path) -> None:
    """True where the column is true; nowhere where it is null, and nowhere without the column."""
    touches = pq.read_table(prepared.journeys / "touches")
    if "randomised" in touches.column_names:
        touches = touches.drop_columns(["randomised"])
    shutil.copytree(prepared.journeys, tmp_path / "journeys")

    def marked(table: pa.Table) -> torch.Tensor:
        pq.write_table(table, tmp_path / "journeys" / "touches" / "part-00000.parquet")
        return load_journeys(tmp_path / "journeys", prepared.data).touch_randomised_N

    assert not marked(touches).any()
    values = [True, None, False] + [None] * (len(touches) - 3)
    column = pa.array(values, pa.bool_())
    assert marked(touches.append_column("randomised", column)).nonzero().flatten().tolist() == [0]


def test_evidence_travels_with_its_batch() -> None:
    table = made_table(users=3, journeys=2, touches=2, overlap=1)
    evidence = TouchEvidence(
        mediator_NK=torch.arange(1.0, 13.0)[:, None], residual_NK=-torch.arange(1.0, 13.0)[:, None],
        observed_N=torch.arange(12) % 3 > 0,
        history_JK=torch.arange(6.0)[:, None], earlier_J=torch.arange(6.0) * 10,
    )  # fmt: skip
    assert table.batch(torch.tensor([0])).evidence is None
    batch = replace(table, evidence=evidence).batch(torch.tensor([3, 0])).to(torch.device("cpu"))
    assert batch.evidence is not None
    assert batch.evidence.mediator_BLK[..., 0].tolist() == [[6, 7, 8], [1, 2, 0]]
    assert batch.evidence.residual_BLK[..., 0].tolist() == [[-6, -7, -8], [-1, -2, 0]]
    assert batch.evidence.observed_BL.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert batch.evidence.history_BK.tolist() == [[3], [0]]
    assert batch.evidence.earlier_B.tolist() == [30, 0]
