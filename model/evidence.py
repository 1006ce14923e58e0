"""What a fitted index and prior say of every touch, and how noisy they are: the parameters of model/denoise.py.

Two groups of responses g ∈ {watch, flags} measure one mediator: within journeys g_l = a_g m_l + a_g η_l + noise_g, so

    g = b_g m + c_g m² + res_g,   a_g = b_g + 2 c_g mean(m),   σ_η² = cov(res_watch, res_flags) / (a_watch a_flags)

with everything journey-demeaned over the touches that have a response, m standing for the index's own prediction (so
that its slope on u is 1). a_g is the average derivative, since the few most inspiring items would decide a straight
line's slope.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.data import JourneyTable, TouchEvidence
from model.front_door import FrontDoorModel
from model.losses import demean

logger = logging.getLogger(__name__)

JOURNEYS_A_BATCH = 4096
LEAK_ALARM = 4.0
"""σ_η² / v above this cannot be noise alone: a response knows what the mediator does not."""


@torch.no_grad()
def with_evidence(model: FrontDoorModel, table: JourneyTable) -> JourneyTable:
    """The table with what the model's index and prior say of every touch; touches in no journey say nothing.

    Journeys of a user overlap. A touch is read with the profile of the first that holds it, so that none of them
    sees a profile from after its t_obs.
    """
    dims, touches = model.config.mediator_dims, len(table.touch_ts_N)
    mediator_NK, residual_NK = torch.zeros(touches, dims), torch.zeros(touches, dims)
    observed_N = torch.zeros(touches)
    told_J = torch.cat([torch.zeros(1, dtype=torch.int64), (table.offset_J + table.length_J)[:-1]])
    for row_B in torch.split(torch.arange(len(table.keys)), JOURNEYS_A_BATCH):
        batch, (position_BL, mask_BL) = table.batch(row_B), table.positions(row_B)
        mask_BL = mask_BL & (position_BL >= told_J[row_B][:, None])
        m_BLK = model.mediator(batch.treatment, batch.profile_BP).mean(0)
        u_BLK = model.index(batch.response_BLR) - model.get_buffer("reference_level_K")
        observed_BL = model.index.observed(batch.response_BLR)
        position_M = position_BL[mask_BL]
        mediator_NK[position_M] = m_BLK[mask_BL]
        residual_NK[position_M] = ((u_BLK - m_BLK) * observed_BL[..., None])[mask_BL]
        observed_N[position_M] = observed_BL[mask_BL]
    earlier_J, history_JK = _before(table, residual_NK, observed_N)
    evidence = TouchEvidence(
        mediator_NK=mediator_NK, residual_NK=residual_NK, observed_N=observed_N, history_JK=history_JK,
        earlier_J=earlier_J,
    )  # fmt: skip
    return replace(table, evidence=evidence)


def _before(table: JourneyTable, residual_NK: Tensor, observed_N: Tensor) -> tuple[Tensor, Tensor]:
    """Number and mean residual of the user's observed touches before each journey. [J], [J, K]."""
    start_J, end_J = table.first_touch_J, table.offset_J
    count_N1 = torch.cat([observed_N.new_zeros(1), observed_N]).double().cumsum(0)
    sum_N1K = torch.cat([residual_NK.new_zeros(1, residual_NK.shape[1]), residual_NK]).double().cumsum(0)
    earlier_J = count_N1[end_J] - count_N1[start_J]
    history_JK = (sum_N1K[end_J] - sum_N1K[start_J]) / earlier_J.clamp_min(1)[:, None]
    return earlier_J.float(), history_JK.float()


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Moments of the fit journeys' residuals, per mediator dimension."""

    reliability_K: Tensor
    """σ_η² / v as estimated, before it is bounded; NaN where there are not two groups of responses."""
    within_variance_K: Tensor
    level_variance_K: Tensor
    mean_residual_K: Tensor

    @property
    def leak_suspected(self) -> bool:
        """Whether the groups agree on more than the whole residual holds."""
        return bool((self.reliability_K > LEAK_ALARM).any())


@torch.no_grad()
def fit_denoiser(model: FrontDoorModel, table: JourneyTable) -> tuple[JourneyTable, Noise]:
    """Set the model's denoiser and reference level by the fit journeys; returns the table with evidence."""
    noise = measure_noise(model, with_evidence(model, table))
    model.get_buffer("reference_level_K").add_(noise.mean_residual_K)
    denoise = model.denoise
    usable_K = (noise.reliability_K > 0).logical_and(noise.reliability_K.isfinite())
    denoise.get_buffer("reliability_K").copy_(torch.where(usable_K, noise.reliability_K, 1.0).clamp(0.05, 1.0))
    denoise.get_buffer("within_variance_K").copy_(noise.within_variance_K.clamp_min(1e-8))
    denoise.get_buffer("level_variance_K").copy_(noise.level_variance_K)
    logger.info(
        "responses: reliability %s, level variance %s of within %s",
        *(_shown(v_K) for v_K in (noise.reliability_K, noise.level_variance_K, noise.within_variance_K)),
    )
    return with_evidence(model, table), noise


def measure_noise(model: FrontDoorModel, table: JourneyTable) -> Noise:
    """The moments, from a table with evidence."""
    fit_J, dims = table.split("fit"), model.config.mediator_dims
    sums = _Sums(dims)
    mean_parts, length_parts = [], []
    for row_B in torch.split(fit_J, JOURNEYS_A_BATCH):
        batch = table.batch(row_B)
        assert batch.evidence is not None
        mask_BL1 = batch.evidence.observed_BL[..., None]
        residual_BLK, m_BLK = batch.evidence.residual_BLK, batch.evidence.mediator_BLK
        watch_BLK, _ = model.index.groups(batch.response_BLR)
        flags_BL1 = batch.response_BLR[..., model.index.flags].nan_to_num(0.0).sum(-1, keepdim=True)
        sums.add(m_BLK, residual_BLK, watch_BLK, flags_BL1, mask_BL1)
        length_B1 = mask_BL1.sum(1)
        told_B = length_B1[:, 0] > 0
        mean_parts.append((residual_BLK.sum(1) / length_B1)[told_B])
        length_parts.append(length_B1[told_B])
    mean_JK, length_J1 = torch.cat(mean_parts).double(), torch.cat(length_parts).double()
    within_K = sums.within_variance()
    centre_K = mean_JK.sum(0) / max(len(mean_JK), 1)
    level_K = (((mean_JK - centre_K) ** 2) - within_K / length_J1).sum(0).clamp_min(0) / max(len(mean_JK), 1)
    grouped = model.index.watch is not None and bool(model.index.flags)
    reliability_K = sums.shared_variance() / within_K.clamp_min(1e-12)
    return Noise(
        reliability_K=(reliability_K if grouped else torch.full_like(within_K, torch.nan)).float(),
        within_variance_K=within_K.float(),
        level_variance_K=level_K.float(),
        mean_residual_K=centre_K.float(),
    )


class _Sums:
    """Within-journey cross-products of m, m², residual, watch and flags, summed over batches."""

    def __init__(self, dims: int) -> None:
        self.dof, self.touches = 0.0, 0.0
        self.m_K = torch.zeros(dims, dtype=torch.float64)
        self.product_K55 = torch.zeros(dims, 5, 5, dtype=torch.float64)

    def add(self, m_BLK: Tensor, residual_BLK: Tensor, watch_BLK: Tensor, flags_BL1: Tensor, mask_BL1: Tensor) -> None:
        parts = (m_BLK, m_BLK**2, residual_BLK, watch_BLK, flags_BL1.expand_as(m_BLK))
        part_5BLK = torch.stack([demean(part, mask_BL1) for part in parts]).double()
        self.product_K55 += torch.einsum("iblk,jblk->kij", part_5BLK, part_5BLK)
        self.m_K += (m_BLK * mask_BL1).sum((0, 1)).double()
        self.touches += float(mask_BL1.sum())
        self.dof += float((mask_BL1.sum(1) - 1).clamp_min(0).sum())

    def within_variance(self) -> Tensor:
        return self.product_K55[:, 2, 2] / max(self.dof, 1.0)

    def shared_variance(self) -> Tensor:
        """σ_η² in units of u. [K]."""
        by_m_K2G, groups_KGG = self.product_K55[:, :2, 3:], self.product_K55[:, 3:, 3:]
        ridge_22 = 1e-9 * torch.eye(2, dtype=torch.float64)
        slope_K2G = torch.linalg.solve(self.product_K55[:, :2, :2] + ridge_22, by_m_K2G)
        left_KGG = groups_KGG - by_m_K2G.transpose(1, 2) @ slope_K2G
        mean_K1 = self.m_K[:, None] / max(self.touches, 1.0)
        derivative_KG = slope_K2G[:, 0] + 2 * mean_K1 * slope_K2G[:, 1]
        return torch.as_tensor(left_KGG[:, 0, 1] / derivative_KG.prod(1) / max(self.dof, 1.0))


def _shown(value_K: Tensor) -> str:
    return "/".join(f"{value:.3g}" for value in value_K.tolist())
