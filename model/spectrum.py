"""A front-door game as a sum of exponentials, in which coalitions factorise.

    h(z) = v(z) = Re Σ_f a_f e^{iω_f z} on [Σ e⁻, Σ e⁺], every sum a coalition can reach,   ω_f = 2πf / (2 · its width)
    h(Σ_{l∈S} e_l) = Re Σ_f a_f Π_{l∈S} x_fl,   x_fl = e^{iω_f e_l}

h is evaluated once a journey, at G Chebyshev nodes; a is its least-squares Fourier extension: the period is twice the
range, so h need not be periodic, and the error falls geometrically in F for a smooth h (1e-7 of h at moderate effects).
Reference: Huybrechs (2010), "On the Fourier extension of nonperiodic functions", SIAM J. Numerical Analysis 47.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from model.front_door import Game

NODES = 32
FREQUENCIES = 16
EXTENSION = 2.0
SINGULAR_FLOOR = 1e-6
"""Directions of the fit below this are dropped: they would amplify h's rounding in single precision."""


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """B games over L touches, complex128."""

    a_BF: Tensor
    gain_BFL: Tensor
    """x − 1: what a joining touch changes a coalition's term by, as a share; 0 for a touch without effect."""


def spectrum(game: Game, e_BL: Tensor) -> Spectrum:
    """The game seen from its touches. [B, L] -> [B, F] and [B, F, L]."""
    unit_G, unit_omega_F, fit_GF = _extension()
    low_B1 = e_BL.double().clamp(max=0).sum(1, keepdim=True)
    width_B1 = (e_BL.double().clamp(min=0).sum(1, keepdim=True) - low_B1).clamp_min(1e-6)
    node_BG = (low_B1 + width_B1 * unit_G).to(e_BL)
    h_BG = torch.cat([game.value(node_B1) for node_B1 in torch.split(node_BG, 1, dim=1)], 1)  # each fits the cache
    omega_BF = unit_omega_F / width_B1
    a_BF = (h_BG.to(fit_GF) @ fit_GF) * torch.exp(-1j * omega_BF * low_B1)
    return Spectrum(a_BF=a_BF, gain_BFL=torch.exp(1j * omega_BF[..., None] * e_BL[:, None]) - 1)


@cache
def _extension() -> tuple[Tensor, Tensor, Tensor]:
    """Nodes on [0, 1] [G], frequencies [F], and the map from values at the nodes to coefficients [G, F]."""
    unit_G = (1 - np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)) / 2
    omega_F = 2 * np.pi * np.arange(FREQUENCIES) / EXTENSION
    phase_GF = unit_G[:, None] * omega_F
    basis_G2F = np.concatenate([np.cos(phase_GF), np.sin(phase_GF)], 1)
    cosine_FG, sine_FG = np.split(np.linalg.pinv(basis_G2F, rcond=SINGULAR_FLOOR), 2)
    return torch.tensor(unit_G), torch.tensor(omega_F), torch.tensor((cosine_FG - 1j * sine_FG).T)
