"""Interactions of touches in closed form: what removing two of them does beyond removing each.

    I_kl = v(Σe) − v(Σe − e_k) − v(Σe − e_l) + v(Σe − e_k − e_l)      > 0 synergy, < 0 redundancy
         = Re Σ_f a_f Π_m x_fm (1 − 1/x_fk) (1 − 1/x_fl)
    v(Σe) − v(Σe − e_k − e_l) = Δ_k + Δ_l − I_kl                       joint removal

In the spectrum of h (model/spectrum.py) the second difference factorises: all pairs of a journey are one matrix
product, without a forward pass and without the cancellation of four values of h. On the probability scale touches
interact wherever h bends, even under an additive link: few uploads make synergy, a saturated journey redundancy.
Reference: Grabisch & Roubens (1999), "An axiomatic approach to the concept of interaction among players in cooperative
games", International J. Game Theory 28: I_kl is the discrete derivative of v at the grand coalition.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.front_door import Game
from model.spectrum import spectrum


@dataclass(frozen=True, kw_only=True)
class PairEffects:
    """All pairs of B journeys, on the probability scale; 0 with padding."""

    interaction_BLL: Tensor
    """I_kl; 0 on the diagonal."""
    joint_BLL: Tensor
    """v(Σe) − v(Σe − e_k − e_l); Δ_k on the diagonal."""


def pair_effects(game: Game, e_BL: Tensor, mask_BL: Tensor) -> PairEffects:
    """Effects of removing every two touches. [B, L] -> [B, L, L], symmetric."""
    s = spectrum(game, e_BL)
    everyone_BF = s.a_BF * (1 + s.gain_BFL).prod(-1)
    leaving_BFL = -s.gain_BFL.conj()  # 1 − 1/x
    delta_BL = torch.einsum("bf,bfl->bl", everyone_BF, leaving_BFL).real
    second_BLL = torch.einsum("bf,bfk,bfl->bkl", everyone_BF, leaving_BFL, leaving_BFL).real
    apart_LL = 1 - torch.eye(e_BL.shape[1], dtype=second_BLL.dtype)
    interaction_BLL = second_BLL * apart_LL
    joint_BLL = delta_BL[:, :, None] + delta_BL[:, None] * apart_LL - interaction_BLL
    real_BLL = mask_BL[:, :, None] * mask_BL[:, None]
    return PairEffects(interaction_BLL=interaction_BLL.to(e_BL) * real_BLL, joint_BLL=joint_BLL.to(e_BL) * real_BLL)


@dataclass(frozen=True, kw_only=True)
class StrongestPairs:
    """P pairs a journey by |I_kl|, strongest first; P is at most L (L − 1) / 2."""

    first_BP: Tensor
    """Position of the older touch."""
    second_BP: Tensor
    interaction_BP: Tensor
    joint_BP: Tensor
    mask_BP: Tensor
    """False where the journey has fewer pairs."""


def strongest_pairs(game: Game, e_BL: Tensor, mask_BL: Tensor, top: int) -> StrongestPairs:
    """The `top` pairs of touches that interact most in either direction."""
    effects = pair_effects(game, e_BL, mask_BL)
    older_T, newer_T = torch.triu_indices(e_BL.shape[1], e_BL.shape[1], offset=1)
    real_BT = (mask_BL[:, older_T] * mask_BL[:, newer_T]).bool()
    strength_BT = effects.interaction_BLL[:, older_T, newer_T].abs().masked_fill(~real_BT, -1)
    best_BP = strength_BT.sort(stable=True, dim=1, descending=True).indices[:, :top]
    first_BP, second_BP = older_T[best_BP], newer_T[best_BP]
    journey_B1 = torch.arange(len(e_BL))[:, None]
    return StrongestPairs(
        first_BP=first_BP,
        second_BP=second_BP,
        interaction_BP=effects.interaction_BLL[journey_B1, first_BP, second_BP],
        joint_BP=effects.joint_BLL[journey_B1, first_BP, second_BP],
        mask_BP=real_BT.gather(1, best_BP),
    )
