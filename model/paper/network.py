"""The published model: backbone, effect head, mediator head, discriminator and match encoder.

    logit P(Y=1 | M, T, x, n) = e(T, x, n) + s Σ_l M_l,    M_l = Ŷ'_l / mean Y'   (direct: Y'_l / mean Y')

Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from model.batch import JourneyBatch
from model.front_door import Sizes
from model.paper.adversary import Discriminator
from model.paper.backbone import Backbone
from model.paper.heads import EffectHead, MediatorHead, match_query
from model.paper.proxy import match_proxy
from model.paper.queue import KeyQueue, follow
from model.paper.settings import PaperConfig
from model.paper.weights import Propensity


class MatchEncoder(nn.Module):
    """Backbone and projection: what MoCo keeps a slow copy of."""

    def __init__(self, backbone: Backbone, hidden: int, match_dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.project = nn.Linear(hidden, match_dim)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the heads say of B journeys."""

    effect_BH: Tensor
    """The journey's part of the effect head."""
    mediator_BLH: Tensor
    """h_l."""
    proxy_logit_BL: Tensor
    """logit Ŷ'_l."""
    projected_BLE: Tensor
    """P z_l."""


class PaperNetwork(nn.Module):
    def __init__(self, config: PaperConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden
        backbone = Backbone(clusters=sizes.clusters, content_dim=sizes.content_dim, hidden=hidden)
        self.match = MatchEncoder(backbone, hidden, config.match_dim)
        self.key_encoder = copy.deepcopy(self.match).requires_grad_(False)
        self.queue = KeyQueue(config.queue, config.match_dim)
        self.effect = EffectHead(profile_dim=sizes.profile_dim, control_dim=sizes.control_dim, hidden=hidden)
        self.mediator = MediatorHead(profile_dim=sizes.profile_dim, hidden=hidden)
        self.discriminator = Discriminator(hidden)
        self.slope = nn.Parameter(torch.tensor(0.1))
        self.propensity = Propensity(
            profile_dim=sizes.profile_dim, clusters=sizes.clusters, clip=config.weight_clip
        )  # fmt: skip
        self.register_buffer("proxy_mean", torch.ones(()))

    def read(self, batch: JourneyBatch) -> Reading:
        z_BLH = self.match.backbone(batch.treatment)
        mediator_BLH, proxy_logit_BL = self.mediator(z_BLH, batch.profile_BP)
        return Reading(
            effect_BH=self.effect.journey(z_BLH, batch.control_BC),
            mediator_BLH=mediator_BLH,
            proxy_logit_BL=proxy_logit_BL,
            projected_BLE=self.match.project(z_BLH),
        )

    def mediated(self, batch: JourneyBatch, M_BL: Tensor) -> Tensor:
        """s M_l / mean Y': what each touch's match adds to the logit. [B, L]."""
        return torch.as_tensor(self.slope / self.get_buffer("proxy_mean") * M_BL * batch.treatment.mask_BL)

    def observed_logit(self, batch: JourneyBatch, reading: Reading) -> Tensor:
        """logit P(Y=1 | M, T, x, n); with the direct proxy M is the label's own Y'. [B]."""
        M_BL = match_proxy(batch)[0] if self.config.direct_proxy else torch.sigmoid(reading.proxy_logit_BL)
        e_B = self.effect(reading.effect_BH, batch.profile_BP)
        return torch.as_tensor(e_B + self.mediated(batch, M_BL).sum(1))

    def query(self, batch: JourneyBatch, reading: Reading, score_BL: Tensor) -> Tensor:
        """q(T), touches weighted by softmax(score). [B, E]."""
        return match_query(reading.projected_BLE, score_BL, batch.treatment.mask_BL)

    @torch.no_grad()
    def keys(self, upload_BD: Tensor) -> Tensor:
        """Momentum-encoded uploads, of length one. [B, D] -> [B, E]."""
        return normalize(self.key_encoder.project(self.key_encoder.backbone.of_upload(upload_BD)), dim=-1)

    def follow(self) -> None:
        """One step of the key encoder after the query encoder."""
        follow(self.key_encoder, self.match, self.config.momentum)
