"""What the networks see. Shape legend for the whole package:

B journeys, L touches (oldest first, padded at the end), D content, P profile, C controls, R responses, H hidden,
J bank journeys, Q quadrature nodes, G grid nodes, I catalogue items, N touches in a table.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

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
class JourneyBatch:
    """One batch: treatment T, responses S, profile x, controls (negative control n, daily activity), outcome y."""

    treatment: Treatment
    response_BLR: Tensor
    """Responses in the schema's order; watch ratio in [0, 1], flags 0 or 1, NaN where missing, 0 on padding."""
    profile_BP: Tensor
    control_BC: Tensor
    """Raw controls; the confounder branch scales them."""
    label_B: Tensor

    def to(self, device: torch.device) -> JourneyBatch:
        moved = {f.name: getattr(self.treatment, f.name).to(device) for f in fields(Treatment)}
        rest = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "treatment"}
        return JourneyBatch(treatment=Treatment(**moved), **rest)
