"""Credits by front-door marginalisation over the best matches of a bank.

    P(Y=1 | do T, x) = Σ_{j in top-K of ω(T, T'_j)} w_j(x) σ(e(T'_j, x, n_j) + s Σ_l M_l),   w_j ∝ r(T'_j, x)
    Δ_l = P(do T) − P(do T∖τ_l)

Only bank journeys whose expected upload matches the journey's own are summed over, so that (T'_j, M) has been seen
together (positivity); r is the clipped density ratio of weights.py, one without it.
Reference: Pearl (1995), "Causal diagrams for empirical research"; ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.batch import JourneyBatch
from model.data import JourneyTable
from model.paper.network import PaperNetwork, Reading

JOURNEYS_A_BATCH = 1024


@dataclass(frozen=True, kw_only=True)
class PaperBank:
    """J fit journeys standing for T'."""

    effect_JH: Tensor
    """Their part of the effect head, n_j included."""
    query_JE: Tensor
    """Their match embedding."""
    count_JK: Tensor
    """Their touches by cluster."""


@dataclass(frozen=True, kw_only=True)
class PaperModel:
    network: PaperNetwork
    bank: PaperBank


@dataclass(frozen=True, kw_only=True)
class PaperCredits:
    """Of J journeys with N touches in all, flat, journey after journey."""

    delta_N: Tensor
    p_J: Tensor
    """P(Y=1 | M, T, x, n): observational, and reading the label where the proxy is used directly."""
    p_do_J: Tensor
    """P(Y=1 | do T, x)."""


@torch.no_grad()
def build_paper_bank(network: PaperNetwork, table: JourneyTable, seed: int) -> PaperBank:
    """Draw `bank` fit journeys, with or without uploads as they come."""
    fit_J = table.split("fit")
    drawn = torch.randperm(len(fit_J), generator=torch.Generator().manual_seed(seed))[: network.config.bank]
    batch = table.batch(fit_J[drawn].sort().values)
    reading = network.read(batch)
    return PaperBank(
        effect_JH=reading.effect_BH,
        query_JE=_expected_match(network, batch, reading),
        count_JK=network.propensity.counts(batch.treatment),
    )


def top_matches(query_BE: Tensor, bank: PaperBank, k: int) -> Tensor:
    """Bank journeys with the k largest ω, all of them for k = 0. -> int64 [B, K]."""
    omega_BJ = query_BE @ bank.query_JE.T
    return omega_BJ.topk(min(k or omega_BJ.shape[1], omega_BJ.shape[1]), dim=1).indices


@torch.no_grad()
def credits(model: PaperModel, table: JourneyTable, row_J: Tensor) -> PaperCredits:
    """Δ of every touch of the rows, P(Y | T, ..) and P(do T, x) of every row."""
    parts = [_credit(model, table.batch(row_B)) for row_B in torch.split(row_J, JOURNEYS_A_BATCH)]
    delta_N, p_J, p_do_J = (torch.cat(part) for part in zip(*parts, strict=True))
    return PaperCredits(delta_N=delta_N, p_J=p_J, p_do_J=p_do_J)


def _credit(model: PaperModel, batch: JourneyBatch) -> tuple[Tensor, Tensor, Tensor]:
    network, bank = model.network, model.bank
    reading = network.read(batch)
    chosen_BK = top_matches(_expected_match(network, batch, reading), bank, network.config.top_k)
    likeness_BJ = network.propensity.likeness(batch.profile_BP, bank.count_JK)
    w_BK = torch.softmax(likeness_BJ.gather(1, chosen_BK), dim=1)
    e_BK = network.effect(bank.effect_JH[chosen_BK], batch.profile_BP[:, None])
    m_BL = network.mediated(batch, torch.sigmoid(reading.proxy_logit_BL))
    full_BK = e_BK + m_BL.sum(1, keepdim=True)
    p_do_B = (w_BK * torch.sigmoid(full_BK)).sum(1)
    p_without_BL = (w_BK[:, None] * torch.sigmoid(full_BK[:, None] - m_BL[..., None])).sum(-1)
    delta_BL = p_do_B[:, None] - p_without_BL
    p_B = torch.sigmoid(network.observed_logit(batch, reading))
    return delta_BL[batch.treatment.mask_BL.bool()], p_B, p_do_B


def _expected_match(network: PaperNetwork, batch: JourneyBatch, reading: Reading) -> Tensor:
    """q(T) with touches weighted by the odds of their predicted match: the upload is not known yet. [B, E]."""
    return network.query(batch, reading, reading.proxy_logit_BL)
