"""What a long fit tells while it runs, and the loss curves it leaves behind."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

logger = logging.getLogger(__name__)


class Progress(Callback):
    """A line an epoch, and every few seconds within one: step, loss, time left."""

    def __init__(self, name: str, seconds: float = 5.0) -> None:
        self.name, self.seconds = name, seconds
        self.began = self.spoke = 0.0
        self.first_step = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        self.began = self.spoke = time.monotonic()
        self.first_step = trainer.global_step
        if trainer.global_step and trainer.is_global_zero:
            logger.info("%s: resumed at step %d, epoch %d", self.name, trainer.global_step, trainer.current_epoch + 1)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        now = time.monotonic()
        if now - self.spoke < self.seconds or not trainer.is_global_zero:
            return
        self.spoke = now
        done, total = trainer.global_step, int(trainer.estimated_stepping_batches)
        left = (now - self.began) / max(done - self.first_step, 1) * (total - done)
        logger.info("%s: step %d of %d, at most %.0f s left", self.name, done, total, left)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        if trainer.is_global_zero:
            metrics = trainer.callback_metrics
            logger.info(
                "%s: epoch %d of %s, outcome loss %.4f fit, %.4f selection",
                self.name, trainer.current_epoch + 1, trainer.max_epochs,
                metrics["train_outcome"], metrics["selection_outcome"],
            )  # fmt: skip


class History(Callback):
    """Every logged metric once an epoch; it travels in the checkpoint, so a resumed fit keeps its past."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1}
        row |= {name: round(float(value), 6) for name, value in sorted(trainer.callback_metrics.items())}
        self.epochs.append({name: value for name, value in row.items() if math.isfinite(value)})

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = list(state_dict["epochs"])
