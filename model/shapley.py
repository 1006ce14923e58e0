"""Shapley credits of a front-door game in closed form.

    v(S) = h(Σ_{l∈S} e_l),   φ_l = ∫₀¹ E[h(Z_q + e_l) − h(Z_q)] dq,   Z_q = Σ_{k≠l} Bernoulli(q) e_k

Owen's multilinear extension: the coalition is a random subset that keeps each other touch with probability q. The
three largest |e_k| are enumerated exactly; the sum of the rest is taken as Normal(q Σ e_k, q(1−q) Σ e_k²). h is
tabulated once a journey and interpolated linearly, so that L credits cost no forward pass. What quadrature misses of
v(T) − v(∅) is spread by the size of the credits, so that Σ φ = v(T) − v(∅) exactly.
Reference: Owen (1972), "Multilinear extensions of games", Management Science 18; ALM-MTA, arXiv 2605.08881.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from model.front_door import Game

GRID_NODES = 64
ENUMERATED = 3


def shapley(game: Game, e_BL: Tensor, mask_BL: Tensor, q_nodes: int = 4, z_nodes: int = 3) -> Tensor:
    """φ of every touch. [B, L] -> [B, L]; 0 on padding."""
    grid_BG, h_BG = _tabulate(game, e_BL)
    large_BLE, rest_mean_BL, rest_square_BL = _others(e_BL)
    phi_BL = torch.zeros_like(e_BL)
    for q, q_weight in _legendre(q_nodes):
        sd_BL = torch.sqrt(q * (1 - q) * rest_square_BL)
        for kept in product((0.0, 1.0), repeat=large_BLE.shape[-1]):
            chance = float(np.prod([q if keep else 1 - q for keep in kept]))
            centre_BL = q * rest_mean_BL + large_BLE @ torch.tensor(kept, dtype=e_BL.dtype)
            for z, z_weight in _hermite(z_nodes):
                without_BL = centre_BL + z * sd_BL
                gain_BL = _interpolate(grid_BG, h_BG, without_BL + e_BL) - _interpolate(grid_BG, h_BG, without_BL)
                phi_BL += q_weight * chance * z_weight * gain_BL
    return _efficient(phi_BL * mask_BL, h_BG, grid_BG, e_BL)


def _others(e_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each touch: the largest effects among the others [B, L, E] (0 for itself), Σ e and Σ e² of their rest."""
    E, L = min(ENUMERATED, e_BL.shape[1]), e_BL.shape[1]
    top_BE = e_BL.abs().topk(E, dim=1).indices
    is_self_BLE = top_BE[:, None] == torch.arange(L)[:, None]
    large_BLE = e_BL.gather(1, top_BE)[:, None] * ~is_self_BLE
    small_BL = e_BL.scatter(1, top_BE, 0.0)
    rest_mean_BL = small_BL.sum(1, keepdim=True) - small_BL
    rest_square_BL = ((small_BL**2).sum(1, keepdim=True) - small_BL**2).clamp_min(0)
    return large_BLE, rest_mean_BL, rest_square_BL


def _legendre(nodes: int) -> list[tuple[float, float]]:
    """Nodes and weights of ∫₀¹ dq."""
    node_Q, weight_Q = np.polynomial.legendre.leggauss(nodes)
    return list(zip(((node_Q + 1) / 2).tolist(), (weight_Q / 2).tolist(), strict=True))


def _hermite(nodes: int) -> list[tuple[float, float]]:
    """Nodes and weights of E over a standard normal."""
    node_Z, weight_Z = np.polynomial.hermite_e.hermegauss(nodes)
    return list(zip(node_Z.tolist(), (weight_Z / weight_Z.sum()).tolist(), strict=True))


def _tabulate(game: Game, e_BL: Tensor) -> tuple[Tensor, Tensor]:
    """h on a grid over every sum a coalition can reach."""
    low_B1, high_B1 = e_BL.clamp(max=0).sum(1, keepdim=True), e_BL.clamp(min=0).sum(1, keepdim=True)
    unit_G = torch.linspace(0, 1, GRID_NODES, dtype=e_BL.dtype)
    grid_BG = low_B1 + (high_B1 - low_B1).clamp_min(1e-6) * unit_G
    return grid_BG, game.value(grid_BG)


def _interpolate(grid_BG: Tensor, h_BG: Tensor, z_BL: Tensor) -> Tensor:
    step_B1 = grid_BG[:, 1:2] - grid_BG[:, :1]
    position_BL = ((z_BL - grid_BG[:, :1]) / step_B1).clamp(0, GRID_NODES - 1)
    left_BL = position_BL.floor().clamp(max=GRID_NODES - 2).long()
    low_BL, high_BL = h_BG.gather(1, left_BL), h_BG.gather(1, left_BL + 1)
    return low_BL + (position_BL - left_BL) * (high_BL - low_BL)


def _efficient(phi_BL: Tensor, h_BG: Tensor, grid_BG: Tensor, e_BL: Tensor) -> Tensor:
    total_B1 = e_BL.sum(1, keepdim=True)
    ends_B2 = _interpolate(grid_BG, h_BG, torch.cat([total_B1, torch.zeros_like(total_B1)], 1))
    gap_B1 = ends_B2[:, :1] - ends_B2[:, 1:] - phi_BL.sum(1, keepdim=True)
    size_BL = phi_BL.abs()
    return phi_BL + gap_B1 * size_BL / size_BL.sum(1, keepdim=True).clamp_min(1e-12)
