"""Last touch: the whole credit to a journey's last touchpoint, none to the others."""

from __future__ import annotations

import torch
from torch import Tensor


def last_touch(mask_BL: Tensor) -> Tensor:
    """1 at each journey's last touch. [B, L] -> [B, L]."""
    position_L = torch.arange(mask_BL.shape[1])
    return (position_L == mask_BL.sum(1, keepdim=True).long() - 1).float() * mask_BL
