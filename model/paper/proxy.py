"""The proxy Y' of the mediator: how much each consumed item resembles what was uploaded.

    Y'_l = y · max(0, cos(content_l, uploaded content))        0 without an upload

It is made of the outcome, so it supervises and never serves. Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from model.batch import JourneyBatch


def match_proxy(batch: JourneyBatch) -> tuple[Tensor, Tensor]:
    """Y' in [0, 1], 0 on padding, and where it is known: a touch, and no upload or an embedded one. [B, L] twice."""
    t = batch.treatment
    if batch.upload_BD is None:
        raise ValueError("the batch carries no uploads: make it with JourneyTable.batch")
    embedded_B = has_upload(batch)
    upload_BD = batch.upload_BD.nan_to_num(0.0)
    similarity_BL = cosine_similarity(t.content_BLD, upload_BD[:, None], dim=-1).clamp(0, 1)
    known_B = embedded_B | (batch.label_B == 0)
    return similarity_BL * t.mask_BL * batch.label_B[:, None], t.mask_BL * known_B[:, None]


def has_upload(batch: JourneyBatch) -> Tensor:
    """Whether the journey's upload is embedded. -> bool [B]."""
    return torch.zeros_like(batch.label_B).bool() if batch.upload_BD is None else batch.upload_BD.isfinite().all(1)
