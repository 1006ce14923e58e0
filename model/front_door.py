"""The front-door model and its effects.

    logit P(Y=1 | T, S, x, n) = c(T, x, n) + g(Σ_l d_l (u_l − r))                          observed
    e_l = κ d_l (m_l − ref(x)),   R_j = Σ d (u − r) − κ Σ d (m − ref) of bank journey j     mediator residual
    P(Y=1 | do T, x) = Σ_j w_j(x) σ(c(T_j, x, n_j) + g(R_j + Σ_l e_l))                      marginalised
    Δ_l = P(do T) − P(do T∖τ_l)

The bank j stands for T' ~ P(T' | x) of the front-door formula Σ_m P(m | T, x) Σ_T' P(T' | x) P(Y | m, T', x): its
weights w_j(x) are a Gaussian kernel on the propensity score s(x) = logit P(Y | x), whose effective sample size
1 / Σ w² is the overlap reported with every credit. Reference: Pearl (1995); ALM-MTA, arXiv 2605.08881.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.batch import JourneyBatch, Treatment
from model.confounder import ConfounderBranch
from model.link import Decay, SaturatingLink
from model.losses import masked_variance
from model.mediator import MediatorPrior
from model.response_index import ResponseIndex
from model.settings import ModelConfig

CATALOGUE_ITEMS = 48


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the data fixes about the networks."""

    clusters: int
    content_dim: int
    profile_dim: int
    control_dim: int
    responses: tuple[str, ...]


class FrontDoorModel(nn.Module):
    def __init__(self, config: ModelConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        shared = {
            "clusters": sizes.clusters,
            "content_dim": sizes.content_dim,
            "profile_dim": sizes.profile_dim,
            "hidden": config.hidden,
        }
        self.index = ResponseIndex(sizes.responses)
        self.prior = MediatorPrior(**shared, catalogue_items=CATALOGUE_ITEMS)
        self.confounder = ConfounderBranch(**shared, control_dim=sizes.control_dim)
        self.decay = Decay()
        self.link = SaturatingLink()
        self.register_buffer("reference_level", torch.zeros(()))
        self.register_buffer("index_variance", torch.ones(()))
        self.register_buffer("kappa", torch.ones(()))

    def outcome_logit(self, batch: JourneyBatch, u_BL: Tensor) -> Tensor:
        """logit P(Y=1 | T, S, x, n). [B]."""
        t = batch.treatment
        centred_BL = (u_BL - self.get_buffer("reference_level")) * t.mask_BL
        M_B = (self.decay(t.gap_hours_BL) * centred_BL).sum(1)
        c_B = self.confounder(t, batch.profile_BP, batch.control_BC)
        return torch.as_tensor(c_B + self.link(M_B))

    def mediator(self, t: Treatment, profile_BP: Tensor) -> Tensor:
        """m(content, x) − ref(x), 0 on padding. [B, L]."""
        m_BL = self.prior(t.cluster_BL, t.content_BLD, profile_BP)
        return torch.as_tensor((m_BL - self.prior.reference(profile_BP)[:, None]) * t.mask_BL)

    def effects(self, t: Treatment, profile_BP: Tensor) -> Tensor:
        """e_l = κ d_l (m_l − ref(x)): what each touch adds to the logit before the link. [B, L]."""
        d_BL = self.decay(t.gap_hours_BL)
        return torch.as_tensor(self.get_buffer("kappa") * d_BL * self.mediator(t, profile_BP))

    def residual(self, batch: JourneyBatch) -> Tensor:
        """R = Σ d (u − r) − Σ e: what the journey's responses say beyond its content. [B]."""
        t = batch.treatment
        u_BL = (self.index(batch.response_BLR) - self.get_buffer("reference_level")) * t.mask_BL
        M_B = (self.decay(t.gap_hours_BL) * u_BL).sum(1)
        return torch.as_tensor(M_B - self.effects(t, batch.profile_BP).sum(1))

    @torch.no_grad()
    def track(self, batch: JourneyBatch, u_BL: Tensor, m_BL: Tensor, momentum: float = 0.05) -> None:
        """Follow var(u) and the level r of u at which content does nothing: mean of u − (m − ref(x))."""
        mask_BL = batch.treatment.mask_BL
        ref_B1 = self.prior.reference(batch.profile_BP)[:, None]
        level = ((u_BL - m_BL + ref_B1) * mask_BL).sum() / mask_BL.sum().clamp_min(1)
        self.get_buffer("reference_level").lerp_(level, momentum)
        self.get_buffer("index_variance").lerp_(masked_variance(u_BL, mask_BL), momentum)


@dataclass(frozen=True, kw_only=True)
class Bank:
    """J fit journeys standing for T' given x: their confounder activations, residuals and propensity scores."""

    hidden_JH: Tensor
    """A pool(T_j) + C n_j of the confounder branch."""
    residual_J: Tensor
    score_J: Tensor
    """Standardised propensity score s(x_j)."""
    score_weight_P: Tensor
    """s(x) = x · weight + bias."""
    score_bias: Tensor


def bank_weights(bank: Bank, profile_BP: Tensor, bandwidth: float) -> Tensor:
    """w_j(x): Gaussian kernel on the propensity score, summing to one. [B, J]."""
    score_B1 = (profile_BP @ bank.score_weight_P + bank.score_bias)[:, None]
    distance_BJ = (score_B1 - bank.score_J) / bandwidth
    return torch.softmax(-0.5 * distance_BJ**2, dim=1)


@dataclass(frozen=True, kw_only=True)
class Game:
    """v(z) = Σ_j w_j σ(c_j + g(R_j + z)) of B journeys: the outcome as a function of what their touches add."""

    c_BJ: Tensor
    residual_J: Tensor
    weight_BJ: Tensor
    link: SaturatingLink

    def outcomes(self, z_BZ: Tensor) -> Tensor:
        """σ(c_j + g(R_j + z)) for Z additions a journey. [B, Z] -> [B, Z, J]."""
        M_BZJ = z_BZ[..., None] + self.residual_J
        return torch.sigmoid(self.c_BJ[:, None] + self.link(M_BZJ))

    def value(self, z_BZ: Tensor) -> Tensor:
        """v(z). [B, Z] -> [B, Z]."""
        return (self.outcomes(z_BZ) * self.weight_BJ[:, None]).sum(-1)


def marginal_game(model: FrontDoorModel, bank: Bank, profile_BP: Tensor) -> Game:
    """The front-door game of each journey's user: everything but its touches."""
    profile_B1H = model.confounder.profile(profile_BP)[:, None]
    c_BJ = model.confounder.logit(bank.hidden_JH, profile_B1H)
    weight_BJ = bank_weights(bank, profile_BP, model.config.bank_bandwidth)
    return Game(c_BJ=c_BJ, residual_J=bank.residual_J, weight_BJ=weight_BJ, link=model.link)


@dataclass(frozen=True, kw_only=True)
class RemovalEffects:
    """Δ of B journeys on the probability scale."""

    delta_BL: Tensor
    p_do_B: Tensor
    p_do_none_B: Tensor
    stderr_BL: Tensor
    """Monte Carlo error of marginalising over a finite bank."""
    overlap_ess_B: Tensor
    """1 / Σ_j w_j²."""


def removal_effects(game: Game, e_BL: Tensor, mask_BL: Tensor) -> RemovalEffects:
    """Δ_l = v(Σ e) − v(Σ e − e_l), with p_do = v(Σ e) and p_do_none = v(0)."""
    total_B1 = e_BL.sum(1, keepdim=True)
    full_B1J = game.outcomes(total_B1)
    p_do_B1 = (full_B1J * game.weight_BJ[:, None]).sum(-1)
    difference_BLJ = full_B1J - game.outcomes(total_B1 - e_BL)
    delta_BL = (difference_BLJ * game.weight_BJ[:, None]).sum(-1) * mask_BL
    ess_B = 1 / (game.weight_BJ**2).sum(1)
    spread_BL = ((difference_BLJ - delta_BL[..., None]) ** 2 * game.weight_BJ[:, None]).sum(-1)
    return RemovalEffects(
        delta_BL=delta_BL,
        p_do_B=p_do_B1[:, 0],
        p_do_none_B=game.value(torch.zeros_like(total_B1))[:, 0],
        stderr_BL=torch.sqrt(spread_BL / ess_B[:, None]) * mask_BL,
        overlap_ess_B=ess_B,
    )
