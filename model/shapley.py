"""Shapley credits of a front-door game in closed form.

    v(S) = h(Σ_{l∈S} e_l),   φ_l = ∫₀¹ E[h(Z_q + e_l) − h(Z_q)] dq,   Z_q = Σ_{k≠l} Bernoulli(q) e_k
         = Re Σ_f a_f ∫₀¹ (x_fl − 1) Π_{k≠l} (1 + q (x_fk − 1)) dq

Owen's multilinear extension: the coalition is a random subset that keeps each other touch with probability q; in the
spectrum of h (model/spectrum.py) the expectation over all 2^(L−1) of them is a product, and the integrand a polynomial
in q, so that L credits cost no forward pass. What the fit and the quadrature miss of v(T) − v(∅) is spread by the size
of the credits, so that Σ φ = v(T) − v(∅) exactly.
Reference: Owen (1972), "Multilinear extensions of games", Management Science 18; ALM-MTA, arXiv 2605.08881.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.front_door import Game
from model.spectrum import spectrum

QUADRATURE = 8
"""Nodes in q: exact up to 16 touches; even, so that none is ½, where a factor 1 + q (x − 1) can vanish."""


def shapley(game: Game, e_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """φ of every touch. [B, L] -> [B, L]; 0 on padding."""
    s = spectrum(game, e_BL)
    phi_BL = torch.zeros(e_BL.shape, dtype=torch.float64)
    for node, weight in zip(*np.polynomial.legendre.leggauss(QUADRATURE), strict=True):
        factor_BFL = 1 + (node + 1) / 2 * s.gain_BFL
        everyone_BF = weight / 2 * s.a_BF * factor_BFL.prod(-1)
        phi_BL += torch.einsum("bf,bfl->bl", everyone_BF, s.gain_BFL / factor_BFL).real
    return _efficient(game, e_BL, phi_BL.to(e_BL) * mask_BL)


def _efficient(game: Game, e_BL: Tensor, phi_BL: Tensor) -> Tensor:
    total_B1 = e_BL.sum(1, keepdim=True)
    whole_B1 = game.value(total_B1) - game.value(torch.zeros_like(total_B1))
    gap_B1 = whole_B1 - phi_BL.sum(1, keepdim=True)
    size_BL = phi_BL.abs()
    return phi_BL + gap_B1 * size_BL / size_BL.sum(1, keepdim=True).clamp_min(1e-12)
