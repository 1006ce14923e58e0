"""Training of the published model, with one optimiser.

    loss = mean w BCE(y, logit + offset) + a mean v BCE(Y', Ŷ') + b BCE(y, D(R_λ(mean_l h_l))) + c InfoNCE

w = inverse propensity, v = prior weight, a, b, c = the configuration's weights; the L2 term is the optimiser's decay.
Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from model.batch import JourneyBatch
from model.module import Schedule, _OneCycleModule
from model.paper.adversary import ramp, reverse_gradient
from model.paper.network import PaperNetwork, Reading
from model.paper.proxy import has_upload, match_proxy
from model.paper.queue import info_nce
from model.sampling import Prior


class PaperModule(_OneCycleModule):
    """Sampled batches carry the offset and the weights; the selection split is scored as it is."""

    def __init__(self, network: PaperNetwork, prior: Prior, schedule: Schedule) -> None:
        super().__init__(network.config.train, schedule)
        self.network, self.prior = network, prior

    def losses(self, batch: JourneyBatch) -> tuple[dict[str, Tensor], Tensor]:
        c, reading = self.network.config, self.network.read(batch)
        logit_B = self.network.observed_logit(batch, reading)
        if not self.training:
            outcome = bce(logit_B, batch.label_B)
            return {"loss": outcome, "outcome": outcome}, logit_B
        outcome = self._outcome(batch, logit_B)
        losses = {"outcome": outcome, "proxy": c.proxy_weight * self._proxy(batch, reading)}
        if c.adversary:
            losses["adversary"] = c.adversary_weight * self._adversary(batch, reading)
        if c.contrastive:
            losses["contrastive"] = c.contrastive_weight * self._contrastive(batch, reading)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}, logit_B

    def _outcome(self, batch: JourneyBatch, logit_B: Tensor) -> Tensor:
        loss_B = bce(logit_B + self.prior.offset, batch.label_B, reduction="none")
        if not self.network.config.ipw:
            return loss_B.mean()
        return (self.network.propensity.weight(batch.treatment, batch.profile_BP) * loss_B).mean()

    def _proxy(self, batch: JourneyBatch, reading: Reading) -> Tensor:
        proxy_BL, known_BL = match_proxy(batch)
        weight_BL = known_BL * self.prior.weight(batch.label_B)[:, None]
        loss_BL = bce(reading.proxy_logit_BL, proxy_BL, reduction="none")
        return (weight_BL * loss_BL).sum() / weight_BL.sum().clamp_min(1)

    def _adversary(self, batch: JourneyBatch, reading: Reading) -> Tensor:
        mask_BL = batch.treatment.mask_BL
        h_BH = (reading.mediator_BLH * mask_BL[..., None]).sum(1) / mask_BL.sum(1, keepdim=True).clamp_min(1)
        strength = self.network.config.reversal * ramp(self.global_step / self.schedule.steps)
        return bce(self.network.discriminator(reverse_gradient(h_BH, strength)), batch.label_B)

    def _contrastive(self, batch: JourneyBatch, reading: Reading) -> Tensor:
        """Each embedded upload against the touches it resembles most; then its key joins the queue."""
        network, embedded_B = self.network, has_upload(batch)
        if batch.upload_BD is None:
            return reading.projected_BLE.sum() * 0
        temperature = network.config.temperature
        query_BE = network.query(batch, reading, match_proxy(batch)[0] / temperature)[embedded_B]
        key_BE = network.keys(batch.upload_BD[embedded_B])
        loss = info_nce(query_BE, key_BE, network.queue.held().clone(), temperature)
        network.queue.push(key_BE)
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        self.network.follow()
