"""Batches of a journey table for Lightning: which rows, in which order, on which rank, and from where after a kill.

epoch e   rows shuffled by a generator of (seed, e), dealt to ranks batch by batch
sampled   of the negatives a fresh draw by (seed, e), the same on every rank (sampling.py)
resumed   the same order, without the batches that were taken
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from model.batch import JourneyBatch
from model.data import JourneyTable
from model.sampling import draw, journeys_an_epoch


def batches_per_epoch(journeys: int, batch_size: int, world_size: int) -> int:
    """Full batches that every rank gets; at least one."""
    return max(journeys // (batch_size * world_size), 1)


class EpochBatches(Sampler[list[int]]):
    """Fit batches: row numbers whose order is a pure function of (seed, epoch); ranks get disjoint batches.

    Journeys of like length go together (sorted within windows of shuffled rows), since a batch is padded to its
    longest; the batches are shuffled again. The tail that fills no batch on every rank waits for another epoch.
    With `negatives_per_positive` an epoch takes all positives of label_J and a fresh draw of so many negatives.
    """

    WINDOW_BATCHES = 64

    def __init__(
        self, row_J: Tensor, length_J: Tensor, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1,
        label_J: Tensor | None = None, negatives_per_positive: float = 0.0,
    ) -> None:  # fmt: skip
        self.row_J, self.length_J, self.batch_size, self.seed = row_J, length_J, batch_size, seed
        self.label_J, self.ratio = (label_J if negatives_per_positive else None), negatives_per_positive
        self.journeys = len(row_J) if self.label_J is None else journeys_an_epoch(self.label_J, self.ratio)
        self.rank, self.world_size, self.epoch = rank, world_size, 0
        self.taken = self._skipped = 0
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        """A state that was loaded holds for its own epoch only."""
        if epoch != self.epoch:
            self.epoch, self._skipped = epoch, 0

    def __len__(self) -> int:
        """Batches of a whole epoch, also where it is resumed; without a length Lightning fetches one ahead."""
        return batches_per_epoch(self.journeys, self.batch_size, self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        self.taken, self._skipped = self._skipped, 0
        for batch in self._batches()[self.taken :]:
            self.taken += 1
            yield batch.tolist()

    def _batches(self) -> Tensor:
        """This rank's batches of the epoch. [batches, batch_size]."""
        generator = self._generator()
        row_J, length_J = self._taken_by_the_epoch()
        used = len(self) * self.world_size * self.batch_size
        shuffled = torch.randperm(len(row_J), generator=generator)
        shuffled = shuffled.repeat(-(-used // len(shuffled)))[:used]
        windows = torch.split(shuffled, self.WINDOW_BATCHES * self.batch_size)
        alike = torch.cat([window[length_J[window].argsort(stable=True)] for window in windows])
        batches = row_J[alike].reshape(-1, self.batch_size)
        order = torch.randperm(len(batches), generator=generator)
        return batches[order[self.rank :: self.world_size]]

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)

    def _taken_by_the_epoch(self) -> tuple[Tensor, Tensor]:
        """Rows and their lengths."""
        if self.label_J is None:
            return self.row_J, self.length_J
        drawn = draw(self.label_J, self.ratio, self._generator())
        return self.row_J[drawn], self.length_J[drawn]

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its batches were taken: the same on every rank."""
        return {"epoch": self.epoch, "taken": self.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration begins after the batches that were taken."""
        self.epoch, self._skipped = state["epoch"], state["taken"]


def selection_batches(
    row_J: Tensor, length_J: Tensor, *, batch_size: int, rank: int, world_size: int
) -> list[list[int]]:
    """Every row once, longest last; where the batches do not divide over the ranks, some get a batch again."""
    batches = [batch.tolist() for batch in torch.split(row_J[length_J.argsort(stable=True)], batch_size)]
    each = -(-len(batches) // world_size)
    return (batches * world_size)[: each * world_size][rank::world_size]


class _Rows(Dataset[JourneyBatch]):
    """A dataset that answers a whole batch at once."""

    def __init__(self, table: JourneyTable) -> None:
        self.table = table

    def __getitems__(self, rows: list[int]) -> JourneyBatch:
        return self.table.batch(torch.tensor(rows))


class _ResumableLoader(DataLoader[JourneyBatch]):
    """Lightning keeps the state of a loader that has these two methods in its checkpoints."""

    def __init__(self, table: JourneyTable, batches: EpochBatches) -> None:
        super().__init__(_Rows(table), batch_sampler=batches, collate_fn=_as_it_is)
        self.batches = batches

    def state_dict(self) -> dict[str, int]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batches.load_state_dict(state)


def _as_it_is(batch: Any) -> Any:
    return batch


class JourneyData(lightning.LightningDataModule):
    """Fit and selection batches for Lightning; sharding over ranks is done here, not by Lightning's sampler."""

    def __init__(self, table: JourneyTable, *, batch_size: int, seed: int, negatives_per_positive: float = 0.0) -> None:
        super().__init__()
        self.table, self.batch_size, self.seed = table, batch_size, seed
        self.negatives_per_positive = negatives_per_positive

    def train_dataloader(self) -> DataLoader[JourneyBatch]:
        row_J = self.table.split("fit")
        rank, world_size = self._place()
        batches = EpochBatches(
            row_J, self.table.length_J[row_J], batch_size=self.batch_size, seed=self.seed,
            rank=rank, world_size=world_size,
            label_J=self.table.label_J[row_J], negatives_per_positive=self.negatives_per_positive,
        )  # fmt: skip
        return _ResumableLoader(self.table, batches)

    def val_dataloader(self) -> DataLoader[JourneyBatch]:
        row_J = self.table.split("selection")
        rank, world_size = self._place()
        length_J = self.table.length_J[row_J]
        return self._loader(
            selection_batches(row_J, length_J, batch_size=self.batch_size, rank=rank, world_size=world_size)
        )

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, batches: Iterable[list[int]]) -> DataLoader[JourneyBatch]:
        return DataLoader(_Rows(self.table), batch_sampler=batches, collate_fn=_as_it_is)

    def transfer_batch_to_device(self, batch: JourneyBatch, device: torch.device, dataloader_idx: int) -> JourneyBatch:  # noqa: ARG002
        return batch.to(device)
