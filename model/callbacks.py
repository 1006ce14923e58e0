"""What a long fit tells while it runs, the loss curves it leaves behind, and what it takes to go on after a kill.

A checkpoint holds weights, optimiser, schedule, early stopping and progress by Lightning; the place in the epoch by the
loader (feed.py); the epoch's sums, each process's random state and a stop already decided by the callbacks here.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.profilers import PassThroughProfiler
from torch import Tensor

from features.files import atomic_file

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


class EpochMeans(Callback):
    """Logs train_*: means over the epoch of what a training step returns, by journeys. Comes before who reads them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sum_K = torch.zeros(0)
        self.journeys = 0

    @torch.no_grad()
    def on_train_batch_end(self, *step: Any) -> None:
        _, _, outputs, batch, _ = step
        added_K = torch.stack(list(outputs.values())) * len(batch.label_B)
        self.sum_K = self.sum_K.to(added_K.device) + added_K if self.journeys else added_K
        self.names, self.journeys = list(outputs), self.journeys + len(batch.label_B)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        means = dict(zip(self.names, self.sum_K / self.journeys, strict=True))
        pl_module.log_dict({f"train_{name}": mean for name, mean in means.items()}, batch_size=1)
        self.journeys = 0

    def state_dict(self) -> dict[str, Any]:
        return {"names": self.names, "sum_K": self.sum_K, "journeys": self.journeys}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.names, self.sum_K, self.journeys = (state_dict[key] for key in ("names", "sum_K", "journeys"))


class MidEpochCheckpoint(ModelCheckpoint):
    """last.ckpt every few minutes; not after an epoch's last batch or once training is to stop: the epoch's follows."""

    def __init__(self, folder: Path, minutes: float) -> None:
        interval = timedelta(minutes=minutes)
        super().__init__(folder, filename="last", train_time_interval=interval, enable_version_counter=False)

    def on_train_batch_end(self, trainer: lightning.Trainer, *rest: Any) -> None:
        if not (trainer.is_last_batch or trainer.should_stop):
            super().on_train_batch_end(trainer, *rest)


class Continuation(Callback):
    """The random state of every process, and a stop that was decided: Lightning's checkpoints lack both."""

    def __init__(self) -> None:
        self.pending: Tensor | None = None

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Called by all processes, one of which writes."""
        state = torch.as_tensor(pl_module.all_gather(_random_state(trainer.strategy.root_device)))
        checkpoint["continuation"] = {
            "random": state.cpu().reshape(trainer.world_size, -1),
            "stop": trainer.should_stop,
        }

    def on_load_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        trainer.should_stop = checkpoint["continuation"]["stop"]
        self.pending = checkpoint["continuation"]["random"][trainer.global_rank]
        _set_random_state(self.pending, trainer.strategy.root_device)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        self.pending = None  # not called where an epoch goes on

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """An iterator draws a seed when it is made: the second one of an epoch that goes on must not count."""
        if self.pending is not None:
            _set_random_state(self.pending, trainer.strategy.root_device)
            self.pending = None


def _random_state(device: torch.device) -> Tensor:
    """torch's generators of this process: the CPU's, then the GPU's where it trains on one. uint8 [bytes]."""
    cpu = torch.get_rng_state()
    return torch.cat([cpu, torch.cuda.get_rng_state(device)]) if device.type == "cuda" else cpu


def _set_random_state(state: Tensor, device: torch.device) -> None:
    """Copies, since torch reads a view from where its storage begins (2.13: another rank's row is a segfault)."""
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size].clone())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[size:].clone(), device)


class NoProfiler(PassThroughProfiler):
    """Lightning enters and leaves a generator around each of some seventy hooks a step: a fifth of what it costs."""

    NOTHING = nullcontext()

    def profile(self, action_name: str) -> Any:  # noqa: ARG002
        return self.NOTHING


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or absent whenever the process dies, whatever disk temporary files are on."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ARG002
        with atomic_file(Path(path)) as temporary:
            torch.save(checkpoint, temporary)
