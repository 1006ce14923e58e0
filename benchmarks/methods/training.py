"""Training that the networks among the peers share: the front-door model's own optimiser, schedule and batches.

A peer is a small nn.Module and a loss of a batch. Where it reads x it gets z = [x, log(1 + n)], by
journeys.with_covariates.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn

from benchmarks.methods.interface import Floats, Scores
from benchmarks.methods.journeys import with_covariates
from model.batch import JourneyBatch
from model.data import JourneyTable
from model.feed import JourneyData
from model.module import plan_schedule
from model.settings import TrainConfig

TOUCHES_A_BATCH = 8192

Score = Callable[[JourneyBatch], Tensor]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's generator from `seed`, and as it was before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train(
    network: nn.Module, loss: Score, table: JourneyTable, *, seed: int, epochs: int, min_steps: int = 300
) -> None:
    """Fit on the fit split; the weights of the best loss on the selection split are left in the network."""
    config = TrainConfig(seed=seed, max_epochs=epochs, min_steps=min_steps, patience=2, accelerator="cpu")
    schedule = plan_schedule(config, len(table.split("fit")))
    module = _Module(network, loss, config, schedule.steps)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        for noise in ("The '.*_dataloader' does not have many workers", r"`isinstance\(treespec, LeafSpec\)`"):
            warnings.filterwarnings("ignore", noise)
        best = ModelCheckpoint(folder, monitor="selection", save_weights_only=True)
        trainer = lightning.Trainer(
            max_epochs=schedule.epochs,
            accelerator="cpu",
            devices=1,
            gradient_clip_val=1.0,
            callbacks=[best, EarlyStopping("selection", patience=config.patience)],
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=JourneyData(table, batch_size=schedule.batch_size, seed=seed))
        module.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])


class _Module(lightning.LightningModule):
    def __init__(self, network: nn.Module, loss: Score, config: TrainConfig, steps: int) -> None:
        super().__init__()
        self.network, self.loss, self.config, self.steps = network, loss, config, steps

    def training_step(self, batch: JourneyBatch) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: JourneyBatch) -> None:
        self.log("selection", self.loss(batch), batch_size=len(batch.label_B))

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        rate = self.config.learning_rate
        optimizer = torch.optim.AdamW(self.parameters(), lr=rate, weight_decay=self.config.weight_decay)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=self.steps + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@torch.no_grad()
def over_journeys(table: JourneyTable, row_J: Tensor, score: Score) -> Floats:
    """score(batch) [B] of every journey, in the rows' order. [J]."""
    return _over(table, row_J, score, torch.ones_like(row_J))


@torch.no_grad()
def over_touches(table: JourneyTable, row_J: Tensor, score: Score) -> Floats:
    """score(batch) [B, L] of every touch, journey after journey. [N]."""

    def flat(batch: JourneyBatch) -> Tensor:
        return score(batch)[batch.treatment.mask_BL.bool()]

    return _over(table, row_J, flat, table.length_J[row_J])


def _over(table: JourneyTable, row_J: Tensor, score: Score, values_J: Tensor) -> Floats:
    """Journeys of like length go together, since a batch is padded to its longest; values_J values come from each."""
    order_J = table.length_J[row_J].argsort(stable=True)
    journeys_a_batch = max(TOUCHES_A_BATCH // int(table.length_J[row_J].max()), 1)
    values_N = torch.cat([score(table.batch(row_B)) for row_B in torch.split(row_J[order_J], journeys_a_batch)])
    place_N = torch.repeat_interleave(order_J, values_J[order_J])
    return values_N[place_N.argsort(stable=True)].double().numpy()


def predictions(
    network: nn.Module, table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, credit_N: Floats
) -> Scores:
    """The credits, with σ(network(batch)) of the rows asked for and of all randomised rows beside them."""

    def probability(of: JourneyTable, rows: Tensor) -> Floats:
        return over_journeys(with_covariates(of, table), rows, lambda batch: torch.sigmoid(network(batch)))

    everyone = None if randomised is None else torch.arange(len(randomised.keys))
    return Scores(
        credit_N=credit_N,
        p_J=probability(table, row_J),
        p_randomised_J=None if randomised is None or everyone is None else probability(randomised, everyone),
    )
