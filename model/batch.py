"""What the networks see. Shape legend for the whole package:

B journeys, L touches (oldest first, padded at the end), D content, P profile, C controls, R responses, H hidden,
K mediator dimensions, E members, J bank journeys, Q quadrature nodes, G grid nodes, I catalogue items, N touches
in a table.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """T: the touchpoints of B journeys, without any response to them."""

    cluster_BL: Tensor
    """int64 index into the schema's clusters; the last index is 'unknown'."""
    content_BLD: Tensor
    """Content embedding; zeros where an item has none."""
    gap_hours_BL: Tensor
    """t_obs − ts in hours, not negative."""
    mask_BL: Tensor
    """1 for a touch, 0 for padding."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a fitted index and prior say of B journeys (model/evidence.py)."""

    mediator_BLK: Tensor
    """m − ref(x), 0 on padding."""
    residual_BLK: Tensor
    """u − r − (m − ref(x)), 0 on padding and where no response was observed."""
    observed_BL: Tensor
    """1 for a touch with a response, 0 for one without and for padding."""
    history_BK: Tensor
    """Mean residual of the user's touches before the journey; 0 where there are none."""
    earlier_B: Tensor
    """Number of those touches."""


@dataclass(frozen=True, kw_only=True)
class JourneyBatch:
    """One batch: treatment T, responses S, profile x, controls (negative control n, daily activity), outcome y."""

    treatment: Treatment
    response_BLR: Tensor
    """Responses in the schema's order; watch ratio in [0, 1], flags 0 or 1, NaN where missing, 0 on padding."""
    profile_BP: Tensor
    control_BC: Tensor
    """Raw controls; the confounder branch scales them."""
    label_B: Tensor
    upload_BD: Tensor | None = None
    """Embedding of the labelled upload, part of the outcome; NaN where there is none or it is not embedded."""

    evidence: Evidence | None = None
    """Held by the batches of a table that went through `with_evidence`."""

    def to(self, device: torch.device) -> JourneyBatch:
        moved: JourneyBatch = self if self.label_B.device == device else _moved(self, device)
        return moved


def _moved(part: Any, device: torch.device) -> Any:
    """A batch, or part of one, on another device."""
    if part is None or isinstance(part, Tensor):
        return None if part is None else part.to(device)
    return type(part)(**{f.name: _moved(getattr(part, f.name), device) for f in fields(part)})
