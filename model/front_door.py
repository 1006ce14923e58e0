"""The front-door model and its effects.

    logit P(Y=1 | T, S, x, n) = c(T, x, n) + g(M̂),   M̂ = α Σ_l d_l · û_l                   observed
    e_l = κ α d_l · (m_l − ref(x)),   R_j = M̂_j − Σ_l e_l of bank journey j                mediator residual
    P(Y=1 | do T, x) = Σ_j w_j(x) σ(c(T_j, x, n_j) + g(R_j + Σ_l e_l))                      marginalised
    Δ_l = P(do T) − P(do T∖τ_l)

û is the index freed of response noise and of hidden intent (model/denoise.py), α its scale, κ the correction of that
scale by randomised rows. u, m and d have K mediator dimensions, summed over before the link, so that a journey stays
a game over one number. The bank j stands for T' ~ P(T' | x) of the front-door formula
Σ_m P(m | T, x) Σ_T' P(T' | x) P(Y | m, T', x): its weights w_j(x) are a Gaussian kernel on the propensity score
s(x) = logit P(Y | x), whose effective sample size 1 / Σ w² is the overlap reported with every credit.
Reference: Pearl (1995); ALM-MTA, arXiv 2605.08881.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.batch import JourneyBatch, Treatment
from model.confounder import ConfounderBranch
from model.denoise import Denoiser
from model.link import Decay, SaturatingLink
from model.losses import masked_variance
from model.mediator import REFERENCE_QUANTILE, MediatorPrior, quantile
from model.response_index import ResponseIndex
from model.settings import ModelConfig

CATALOGUE_ITEMS = 48
TRACKED = 64
"""Users a batch whose reference content is looked up to follow r; it moves slowly, and they are many."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the data fixes about the networks."""

    clusters: int
    content_dim: int
    profile_dim: int
    control_dim: int
    responses: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    """Responses that the index must not read: consequences of the upload."""


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
        K = config.mediator_dims
        self.index = ResponseIndex(sizes.responses, K, ignored=sizes.ignored)
        self.prior = MediatorPrior(**shared, dims=K, members=config.members, catalogue_items=CATALOGUE_ITEMS)
        self.confounder = ConfounderBranch(
            **shared, control_dim=sizes.control_dim, dims=K, attention_heads=config.attention_heads
        )
        self.denoise = Denoiser(K)
        self.decay = Decay(K)
        self.link = SaturatingLink()
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("reference_level_K", torch.zeros(K))
        self.register_buffer("index_variance_K", torch.ones(K))
        self.register_buffer("kappa", torch.ones(()))
        self.register_buffer("kappa_relative_error", torch.zeros(()))

    def joint_logit(self, batch: JourneyBatch, u_BLK: Tensor) -> Tensor:
        """c + g(Σ_l d_l · (u_l − r)): the outcome by raw responses, while index and prior are being fitted. [B]."""
        t = batch.treatment
        observed_BL1 = self.observed(batch)[..., None]
        centred_BLK = (u_BLK - self.get_buffer("reference_level_K")) * observed_BL1
        M_B = (self.decay(t.gap_hours_BL) * centred_BLK).sum((1, 2))
        return torch.as_tensor(self.confounder(t, batch.profile_BP, batch.control_BC) + self.link(M_B))

    def observed(self, batch: JourneyBatch) -> Tensor:
        """1 for a touch with a response, 0 for one without and for padding. [B, L]."""
        return batch.treatment.mask_BL * self.index.observed(batch.response_BLR)

    def pooled_mediator(self, batch: JourneyBatch) -> Tensor:
        """M̂ = α Σ_l d_l · û_l of the denoised mediator. [B]. Reads the batch's evidence."""
        d_BLK = self.decay(batch.treatment.gap_hours_BL)
        return torch.as_tensor(self.log_scale.exp() * (d_BLK * self.denoise(batch)).sum((1, 2)))

    def confounding_activation(self, batch: JourneyBatch) -> Tensor:
        """A pool(T) + C n + D s: all of the confounder branch but the profile. [B, H]. Reads the batch's evidence."""
        c = self.confounder
        return torch.as_tensor(
            c.pool(batch.treatment) + c.controls(batch.control_BC) + c.level(self.denoise.level(batch))
        )

    def outcome_logit(self, batch: JourneyBatch) -> Tensor:
        """logit P(Y=1 | T, S, x, n) = c + g(M̂). [B]. Reads the batch's evidence."""
        c_B = self.confounder.logit(self.confounding_activation(batch), self.confounder.profile(batch.profile_BP))
        return torch.as_tensor(c_B + self.link(self.pooled_mediator(batch)))

    def mediator(self, t: Treatment, profile_BP: Tensor) -> Tensor:
        """m(content, x) − ref(x) of every member, 0 on padding. [E, B, L, K]."""
        m_EBLK = self.prior(t.cluster_BL, t.content_BLD, profile_BP)
        return torch.as_tensor((m_EBLK - self.prior.reference(profile_BP)[:, :, None]) * t.mask_BL[..., None])

    def member_effects(self, t: Treatment, profile_BP: Tensor) -> Tensor:
        """e_l by every member. [E, B, L]."""
        d_BLK = self.decay(t.gap_hours_BL)
        scale = self.get_buffer("kappa") * self.log_scale.exp()
        return torch.as_tensor(scale * (d_BLK * self.mediator(t, profile_BP)).sum(-1))

    def effects(self, t: Treatment, profile_BP: Tensor) -> Tensor:
        """e_l = κ α d_l · (m_l − ref(x)): what each touch adds to the logit before the link. [B, L]."""
        return self.member_effects(t, profile_BP).mean(0)

    def level_doubt(self, t: Treatment, profile_BP: Tensor) -> Tensor:
        """What e_l would be more if effects began as far below the reference as the median item is above it. [B, L]."""
        m_BIK = self.prior.over_catalogue(profile_BP).mean(0).sort(dim=1).values
        gap_B1K = quantile(m_BIK, 0.5)[:, None] - quantile(m_BIK, REFERENCE_QUANTILE)[:, None]
        scale = self.get_buffer("kappa") * self.log_scale.exp()
        return torch.as_tensor(scale * (self.decay(t.gap_hours_BL) * gap_B1K).sum(-1) * t.mask_BL)

    def residual(self, batch: JourneyBatch) -> Tensor:
        """R = M̂ − Σ e: what the journey's responses say beyond its content. [B]. Reads the batch's evidence."""
        effects_BL = self.effects(batch.treatment, batch.profile_BP)
        return torch.as_tensor(self.pooled_mediator(batch) - effects_BL.sum(1))

    @torch.no_grad()
    def track(
        self, batch: JourneyBatch, u_BLK: Tensor, m_BLK: Tensor, momentum: float = 0.05, weight_B: Tensor | None = None
    ) -> None:
        """Follow var(u) and the level r of u at which content does nothing: mean of u − (m − ref(x)).

        weight_B: of each journey in these means; None = 1.
        """
        mask_BL1, few_x = self.observed(batch)[..., None], batch.profile_BP[:TRACKED]
        ref_EBK = self.prior.reference(few_x)
        if weight_B is None:
            ref_K = ref_EBK.mean((0, 1))
        else:
            few_B1 = weight_B[: len(few_x), None]
            mask_BL1, ref_K = mask_BL1 * weight_B[:, None, None], (ref_EBK.mean(0) * few_B1).sum(0) / few_B1.sum()
        level_K = ((u_BLK - m_BLK) * mask_BL1).sum((0, 1)) / mask_BL1.sum().clamp_min(1) + ref_K
        self.get_buffer("reference_level_K").lerp_(level_K, momentum)
        self.get_buffer("index_variance_K").lerp_(masked_variance(u_BLK, mask_BL1), momentum)


@dataclass(frozen=True, kw_only=True)
class Bank:
    """J fit journeys standing for T' given x: their confounder activations, residuals and propensity scores."""

    hidden_JH: Tensor
    """A pool(T_j) + C n_j + D s_j of the confounder branch."""
    residual_J: Tensor
    score_J: Tensor
    """Standardised propensity score s(x_j)."""
    score_weight_P: Tensor
    """s(x) = x · weight + bias."""
    score_bias: Tensor


def bank_weights(bank: Bank, profile_BP: Tensor, bandwidth: float, matches: int = 0) -> Tensor:
    """w_j(x): Gaussian kernel on the propensity score, summing to one; over the `matches` nearest if not 0. [B, J]."""
    score_B1 = (profile_BP @ bank.score_weight_P + bank.score_bias)[:, None]
    log_kernel_BJ = -0.5 * ((score_B1 - bank.score_J) / bandwidth) ** 2
    if 0 < matches < log_kernel_BJ.shape[1]:
        nearest_BM = log_kernel_BJ.topk(matches, dim=1).indices
        outside_BJ = torch.ones_like(log_kernel_BJ).scatter(1, nearest_BM, 0.0)
        log_kernel_BJ = log_kernel_BJ - 1e9 * outside_BJ
    return torch.softmax(log_kernel_BJ, dim=1)


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
    weight_BJ = bank_weights(bank, profile_BP, model.config.bank_bandwidth, model.config.bank_matches)
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
