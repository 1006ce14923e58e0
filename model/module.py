"""Training of the front-door model and of the naive baseline, as Lightning modules with one optimiser each.

AdamW under a one-cycle schedule; epochs are stretched to a least number of steps, since too few attenuate the scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics.classification import BinaryAUROC

from model.adversary import TrustedViewAdversary
from model.baselines.naive import NaiveModel
from model.batch import JourneyBatch
from model.feed import batches_per_epoch
from model.front_door import FrontDoorModel
from model.losses import mediator_loss
from model.sampling import Prior, journeys_an_epoch, plan_prior
from model.settings import TrainConfig

SHAPE = ("model.link", "model.decay", "model.log_scale")
"""A handful of numbers with small gradients, which at the networks' rate stay where they start."""
ADVERSARY_RATE = 4.0
"""The discriminator's learning rate, times that of the networks it chases (two time scales: Heusel et al., 2017)."""
ADVERSARY_RAMP = 0.3
"""Share of the steps over which the adversary's gradient grows to its full strength."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a TrainConfig comes to on so many fit journeys."""

    batch_size: int
    epochs: int
    steps: int
    prior: Prior | None = None
    """What the draw of negatives has to be weighted by; None where all are taken."""


def plan_training(config: TrainConfig, label_J: Tensor) -> Schedule:
    """The schedule of a fit on journeys with these outcomes, sampled as the settings say."""
    ratio = config.negatives_per_positive
    schedule = plan_schedule(config, journeys_an_epoch(label_J, ratio))
    return replace(schedule, prior=plan_prior(label_J, ratio)) if ratio else schedule


def plan_schedule(config: TrainConfig, journeys: int) -> Schedule:
    """Batches and epochs that make at least `min_steps` and about `max_steps` steps at most."""
    batch_size = config.batch_size
    while (
        batch_size > 64
        and batches_per_epoch(journeys, batch_size, config.devices) * config.max_epochs < config.min_steps
    ):
        batch_size = max(batch_size // 2, 64)
    per_epoch = batches_per_epoch(journeys, batch_size, config.devices)
    fewest, most = -(-config.min_steps // per_epoch), max(round(config.max_steps / per_epoch), 1)
    epochs = max(min(config.max_epochs, most), fewest)
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

    def weight(self, batch: JourneyBatch) -> Tensor | None:
        """Of each journey in every loss of training: sampling by y changes whose touches and profiles the batches hold,
        so that not only the losses on y need it, but all means over journeys. None = 1; the selection split is whole.
        """
        prior = self.schedule.prior
        return prior.weight(batch.label_B) if prior is not None and self.training else None

    def training_step(self, batch: JourneyBatch) -> dict[str, Tensor]:
        """The named losses, whose means over the epoch a callback logs (callbacks.py): Lightning's own are lost when a
        fit is killed, and cost as much as a small network."""
        losses, _ = self.losses(batch)
        return losses

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
        rates = dict.fromkeys(SHAPE, c.link_rate)
        rates |= {"model.prior": c.prior_rate, "adversary": ADVERSARY_RATE}
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                times = next((rate for part, rate in rates.items() if name.startswith(part)), 1.0)
                decay = 0.0 if name.startswith(SHAPE) else c.weight_decay
                new = {"params": [], "lr": times * c.learning_rate, "weight_decay": decay}
                groups.setdefault((times, decay), new)["params"].append(parameter)
        optimizer = torch.optim.AdamW(groups.values())
        peaks = [group["lr"] for group in groups.values()]
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=self.schedule.steps + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class FrontDoorModule(_OneCycleModule):
    """loss = outcome BCE + mediator_weight · mediator loss (losses.py) + the adversary's BCE (adversary.py)."""

    def __init__(self, model: FrontDoorModel, config: TrainConfig, schedule: Schedule) -> None:
        super().__init__(config, schedule)
        self.model = model
        for parameter in _outcome_only(model):
            parameter.requires_grad_(False)
        sizes, responses = model.sizes, model.sizes.responses
        self.trusted = responses.index(config.trusted_response) if config.trusted_response in responses else None
        guarded = config.adversary_weight > 0 and self.trusted is not None and bool(model.index.flags)
        self.adversary = (
            TrustedViewAdversary(
                dims=model.config.mediator_dims, profile_dim=sizes.profile_dim, hidden=model.config.hidden
            )
            if guarded
            else None
        )

    def losses(self, batch: JourneyBatch) -> tuple[dict[str, Tensor], Tensor]:
        t, model, weight_B = batch.treatment, self.model, self.weight(batch)
        u_BLK = model.index(batch.response_BLR)
        m_EBLK = model.prior(t.cluster_BL, t.content_BLD, batch.profile_BP)
        if self.training:
            model.track(batch, u_BLK, m_EBLK.mean(0), weight_B=weight_B)
        logit_B = model.joint_logit(batch, u_BLK)
        variance_K = model.get_buffer("index_variance_K")
        outcome = binary_cross_entropy_with_logits(logit_B, batch.label_B, weight=weight_B)
        observed_BL = model.observed(batch)
        mediator = mediator_loss(
            m_EBLK, u_BLK, observed_BL, variance_K, within_journey=self.config.within_journey, weight_B=weight_B
        )
        named = {"outcome": outcome, "mediator": mediator}
        loss = outcome + self.config.mediator_weight * mediator
        if self.adversary is not None:
            error_BLK = (u_BLK - m_EBLK.mean(0).detach()) / variance_K.clamp_min(1e-6).sqrt()
            named["adversary"] = self._adversary_loss(batch, error_BLK)
            loss = loss + named["adversary"]
        return {"loss": loss, **named}, logit_B

    def _adversary_loss(self, batch: JourneyBatch, error_BLK: Tensor) -> Tensor:
        assert self.adversary is not None
        t = batch.treatment
        trusted_BL = batch.response_BLR[..., self.trusted]
        trusted_BL = torch.where(trusted_BL.isnan(), self.model.index.get_buffer("watch_fill"), trusted_BL)
        with torch.no_grad():
            d_BLK, pool_BH = self.model.decay(t.gap_hours_BL), self.model.confounder.pool(t)
        ramp = min(self.global_step / (ADVERSARY_RAMP * self.schedule.steps), 1.0)
        logit_B = self.adversary(
            error_BLK=error_BLK, trusted_BL=torch.logit(trusted_BL, eps=1e-3) / 2, d_BLK=d_BLK,
            mask_BL=self.model.observed(batch),
            pool_BH=pool_BH, profile_BP=batch.profile_BP, strength=self.config.adversary_weight * ramp,
        )  # fmt: skip
        return binary_cross_entropy_with_logits(logit_B, batch.label_B, weight=self.weight(batch))


def _outcome_only(model: FrontDoorModel) -> list[Tensor]:
    """Parameters that the joint loss does not reach, which DDP does not forgive."""
    return [model.log_scale, model.confounder.level.weight]


class OutcomeModule(_OneCycleModule):
    """loss = BCE of the denoised outcome; index and prior stay as they are."""

    def __init__(self, model: FrontDoorModel, config: TrainConfig, schedule: Schedule) -> None:
        super().__init__(config, schedule)
        self.model = model
        for fitted in (model.index, model.prior):
            fitted.requires_grad_(False)
        for parameter in _outcome_only(model):
            parameter.requires_grad_(True)

    def losses(self, batch: JourneyBatch) -> tuple[dict[str, Tensor], Tensor]:
        logit_B = self.model.outcome_logit(batch)
        outcome = binary_cross_entropy_with_logits(logit_B, batch.label_B, weight=self.weight(batch))
        return {"loss": outcome, "outcome": outcome}, logit_B


class NaiveModule(_OneCycleModule):
    """loss = BCE of P(Y | T, x)."""

    def __init__(self, model: NaiveModel, config: TrainConfig, schedule: Schedule) -> None:
        super().__init__(config, schedule)
        self.model = model

    def losses(self, batch: JourneyBatch) -> tuple[dict[str, Tensor], Tensor]:
        logit_B = self.model(batch)
        outcome = binary_cross_entropy_with_logits(logit_B, batch.label_B, weight=self.weight(batch))
        return {"loss": outcome, "outcome": outcome}, logit_B
