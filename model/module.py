"""Training of the front-door model and of the naive baseline, as Lightning modules with one optimiser each.

AdamW under a one-cycle schedule; epochs are stretched to a least number of steps, since too few attenuate the scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import lightning
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics.classification import BinaryAUROC

from model.baselines.naive import NaiveModel
from model.batch import JourneyBatch
from model.data import batches_per_epoch
from model.front_door import FrontDoorModel
from model.losses import mediator_loss
from model.settings import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a TrainConfig comes to on so many fit journeys."""

    batch_size: int
    epochs: int
    steps: int


def plan_schedule(config: TrainConfig, journeys: int) -> Schedule:
    """Batches and epochs that make at least `min_steps` steps."""
    batch_size = config.batch_size
    while (
        batch_size > 64
        and batches_per_epoch(journeys, batch_size, config.devices) * config.max_epochs < config.min_steps
    ):
        batch_size = max(batch_size // 2, 64)
    per_epoch = batches_per_epoch(journeys, batch_size, config.devices)
    epochs = max(config.max_epochs, -(-config.min_steps // per_epoch))
    return Schedule(batch_size=batch_size, epochs=epochs, steps=per_epoch * epochs)


class _OneCycleModule(lightning.LightningModule):
    """Optimiser, schedule and logging that both models share; a subclass computes the losses of a batch."""

    def __init__(self, config: TrainConfig, schedule: Schedule) -> None:
        super().__init__()
        self.config, self.schedule = config, schedule
        self.upload_auc = BinaryAUROC()

    def losses(self, batch: JourneyBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Named losses, the first being what is minimised, and the outcome logit [B]."""
        raise NotImplementedError

    def training_step(self, batch: JourneyBatch) -> Tensor:
        losses, _ = self.losses(batch)
        self.log_dict(
            {f"train_{k}": v for k, v in losses.items()}, batch_size=len(batch.label_B), on_step=False, on_epoch=True
        )
        return losses["loss"]

    def validation_step(self, batch: JourneyBatch) -> None:
        losses, logit_B = self.losses(batch)
        self.upload_auc.update(logit_B, batch.label_B.long())
        self.log_dict(
            {f"selection_{k}": v for k, v in losses.items()},
            batch_size=len(batch.label_B),
            sync_dist=True,
        )
        self.log("selection_upload_auc", self.upload_auc)

    def configure_optimizers(self) -> dict[str, object]:  # type: ignore[override]
        c = self.config
        optimizer = torch.optim.AdamW(self.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, c.learning_rate, total_steps=self.schedule.steps + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class FrontDoorModule(_OneCycleModule):
    """loss = outcome BCE + mediator_weight · within-journey mediator loss (model/losses.py)."""

    def __init__(self, model: FrontDoorModel, config: TrainConfig, schedule: Schedule) -> None:
        super().__init__(config, schedule)
        self.model = model

    def losses(self, batch: JourneyBatch) -> tuple[dict[str, Tensor], Tensor]:
        t = batch.treatment
        u_BL = self.model.index(batch.response_BLR)
        m_BL = self.model.prior(t.cluster_BL, t.content_BLD, batch.profile_BP)
        if self.training:
            self.model.track(batch, u_BL, m_BL)
        logit_B = self.model.outcome_logit(batch, u_BL)
        outcome = binary_cross_entropy_with_logits(logit_B, batch.label_B)
        mediator = mediator_loss(m_BL, u_BL, t.mask_BL, self.model.get_buffer("index_variance"))
        loss = outcome + self.config.mediator_weight * mediator
        return {"loss": loss, "outcome": outcome, "mediator": mediator}, logit_B


class NaiveModule(_OneCycleModule):
    """loss = BCE of P(Y | T, x)."""

    def __init__(self, model: NaiveModel, config: TrainConfig, schedule: Schedule) -> None:
        super().__init__(config, schedule)
        self.model = model

    def losses(self, batch: JourneyBatch) -> tuple[dict[str, Tensor], Tensor]:
        logit_B = self.model(batch)
        outcome = binary_cross_entropy_with_logits(logit_B, batch.label_B)
        return {"loss": outcome, "outcome": outcome}, logit_B
