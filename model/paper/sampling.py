"""2:3 sampling of positives and negatives, and the correction that keeps the prior.

    trained on   logit P_s(y | ·) = logit P(y | ·) + log odds_s − log odds        (offset; served without it)
    or weighted  v_1 = π / π_s,  v_0 = (1 − π) / (1 − π_s)

π = share of uploads in the fit split, π_s among the sampled. Reference: King & Zeng (2001), "Logistic regression in
rare events data".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from model.batch import JourneyBatch
from model.data import JourneyTable
from model.feed import EpochBatches, JourneyData, batches_per_epoch


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Share of uploads before and after sampling."""

    share: float
    sampled: float

    @property
    def offset(self) -> float:
        """Added to the logit in training."""
        return math.log(self.sampled / (1 - self.sampled)) - math.log(self.share / (1 - self.share))

    def weight(self, label_B: Tensor) -> Tensor:
        """v_y: what makes a sampled mean the population's. [B]."""
        return torch.where(label_B > 0, self.share / self.sampled, (1 - self.share) / (1 - self.sampled))


def negatives(label_J: Tensor, negatives_per_positive: float) -> int:
    """How many journeys without an upload an epoch draws; 0 asked = all there are."""
    positives = int((label_J > 0).sum())
    there = len(label_J) - positives
    return min(round(negatives_per_positive * positives), there) if negatives_per_positive else there


def plan_prior(label_J: Tensor, negatives_per_positive: float) -> Prior:
    positives = int((label_J > 0).sum())
    drawn = negatives(label_J, negatives_per_positive)
    return Prior(share=positives / len(label_J), sampled=positives / (positives + drawn))


def draw(label_J: Tensor, negatives_per_positive: float, generator: torch.Generator) -> Tensor:
    """Positions of all positives and of as many negatives, drawn without replacement, sorted."""
    positive, negative = (label_J > 0).nonzero()[:, 0], (label_J == 0).nonzero()[:, 0]
    chosen = torch.randperm(len(negative), generator=generator)[: negatives(label_J, negatives_per_positive)]
    return torch.cat([positive, negative[chosen]]).sort().values


class SampledBatches(Sampler[list[int]]):
    """Batches of an epoch whose negatives are drawn anew, a pure function of (seed, epoch)."""

    def __init__(
        self, row_J: Tensor, table: JourneyTable, *, negatives_per_positive: float, batch_size: int, seed: int
    ) -> None:
        self.row_J, self.length_J, self.label_J = row_J, table.length_J[row_J], table.label_J[row_J]
        self.ratio, self.batch_size, self.seed, self.epoch = negatives_per_positive, batch_size, seed, 0
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        rows = int((self.label_J > 0).sum()) + negatives(self.label_J, self.ratio)
        return batches_per_epoch(rows, self.batch_size, 1)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        drawn = draw(self.label_J, self.ratio, generator)
        batches = EpochBatches(self.row_J[drawn], self.length_J[drawn], batch_size=self.batch_size, seed=self.seed)
        batches.set_epoch(self.epoch)
        return iter(batches)


class SampledData(JourneyData):
    """Sampled fit batches; the selection split as it is."""

    def __init__(self, table: JourneyTable, *, negatives_per_positive: float, batch_size: int, seed: int) -> None:
        super().__init__(table, batch_size=batch_size, seed=seed)
        self.ratio = negatives_per_positive

    def train_dataloader(self) -> DataLoader[JourneyBatch]:
        return self._loader(
            SampledBatches(
                self.table.split("fit"), self.table, negatives_per_positive=self.ratio, batch_size=self.batch_size,
                seed=self.seed,
            )
        )  # fmt: skip
