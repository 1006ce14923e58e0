"""The training loss.

    loss = BCE(y, c + g(Σ d (u − r))) + Σ mask · [dm(m) − dm(sg(u))]² / (Σ mask · EMA var(u))

dm = demeaned within the journey: comparing touches of one journey removes whatever hidden intent adds to all of
them. sg = stop-gradient: the prior follows the index, never the other way round.
Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import torch
from torch import Tensor


def demean(value_BLK: Tensor, mask_BL1: Tensor) -> Tensor:
    """Subtract each journey's mean over its touches; 0 on padding. [.., L, K] -> [.., L, K]."""
    mean_B1K = (value_BLK * mask_BL1).sum(-2, keepdim=True) / mask_BL1.sum(-2, keepdim=True).clamp_min(1)
    return (value_BLK - mean_B1K) * mask_BL1


def masked_variance(value_BLK: Tensor, mask_BL1: Tensor) -> Tensor:
    """Variance over all touches of a batch. [K]."""
    count = mask_BL1.sum().clamp_min(1)
    mean_K = (value_BLK * mask_BL1).sum((0, 1)) / count
    return torch.as_tensor((((value_BLK - mean_K) ** 2) * mask_BL1).sum((0, 1)) / count)


def mediator_loss(
    m_EBLK: Tensor, u_BLK: Tensor, mask_BL: Tensor, variance_K: Tensor, *, within_journey: bool = True,
    weight_B: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Squared error of the prior's members against the (detached) response index, in units of var(u).

    weight_B: of each journey in the mean over touches; None = 1.
    """
    mask_BL1, target_BLK = mask_BL[..., None], u_BLK.detach()
    if within_journey:
        m_EBLK, target_BLK = demean(m_EBLK, mask_BL1), demean(target_BLK, mask_BL1)
    error_EBLK = (m_EBLK - target_BLK) * mask_BL1
    squared_EBLK = error_EBLK**2
    if weight_B is not None:
        squared_EBLK, mask_BL = squared_EBLK * weight_B[:, None, None], mask_BL * weight_B[:, None]
    per_dim_K = squared_EBLK.sum((0, 1, 2)) / (len(m_EBLK) * mask_BL.sum().clamp_min(1))
    return (per_dim_K / variance_K.clamp_min(1e-6)).mean()
