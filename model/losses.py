"""The training loss.

    loss = BCE(y, c + g(Σ d (u − r))) + Σ mask · [dm(m) − dm(sg(u))]² / (Σ mask · EMA var(u))

dm = demeaned within the journey: comparing touches of one journey removes whatever hidden intent adds to all of
them. sg = stop-gradient: the prior follows the index, never the other way round.
Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import torch
from torch import Tensor


def demean(value_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Subtract each journey's mean over its touches; 0 on padding."""
    mean_B1 = (value_BL * mask_BL).sum(1, keepdim=True) / mask_BL.sum(1, keepdim=True).clamp_min(1)
    return (value_BL - mean_B1) * mask_BL


def masked_variance(value_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Variance over all touches of a batch."""
    count = mask_BL.sum().clamp_min(1)
    mean = (value_BL * mask_BL).sum() / count
    return torch.as_tensor((((value_BL - mean) ** 2) * mask_BL).sum() / count)


def mediator_loss(m_BL: Tensor, u_BL: Tensor, mask_BL: Tensor, variance: Tensor) -> Tensor:
    """Within-journey squared error of the prior against the (detached) response index, in units of var(u)."""
    error_BL = demean(m_BL, mask_BL) - demean(u_BL.detach(), mask_BL)
    return (error_BL**2).sum() / (mask_BL.sum().clamp_min(1) * variance.clamp_min(1e-6))
