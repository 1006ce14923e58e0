"""The trusted-view adversary: takes out of the index what only the upload itself can have put there.

    e = u − sg(m),   w = trusted response,   f(z) = [Σ d z, mean z, sum of the last two z]
    loss = BCE(D[GRL_λ(f(e) / sd u), f(w), sg(pool T), x], y)

A response that is a consequence of the upload (a camera opened, a match computed from what was uploaded) lets e know of
y more than the trusted response does. D learns to read it, and the reversed gradient makes the index forget it; what e
shares with the trusted view is left alone, since D has it anyway. It assumes that the trusted response is not leaked.
References: Ganin et al. (2016), "Domain-adversarial training of neural networks", JMLR 17; ALM-MTA, arXiv 2605.08881.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def reverse_gradient(value: Tensor, strength: float) -> Tensor:
    """The value itself, whose gradient comes back times −strength."""
    return value.detach() * (1 + strength) - value * strength


def journey_features(z_BLK: Tensor, d_BLK: Tensor, mask_BL1: Tensor) -> Tensor:
    """f(z): decayed sum, mean, and sum of the last two touches. [B, L, K] -> [B, 3 K]."""
    z_BLK = z_BLK * mask_BL1
    count_B1 = mask_BL1.sum(1).clamp_min(1)
    from_end_BL1 = mask_BL1.long().flip(1).cumsum(1).flip(1)  # of floats it is not deterministic on a GPU
    last_two_BLK = z_BLK * (from_end_BL1 <= 2)
    return torch.cat([(d_BLK * z_BLK).sum(1), z_BLK.sum(1) / count_B1, last_two_BLK.sum(1)], 1)


class TrustedViewAdversary(nn.Module):
    """D: logit of y from what the index and the trusted view say. [B]."""

    def __init__(self, *, dims: int, profile_dim: int, hidden: int) -> None:
        super().__init__()
        self.discriminate = nn.Sequential(
            nn.Linear(3 * dims + 3 + hidden + profile_dim, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(
        self, *, error_BLK: Tensor, trusted_BL: Tensor, d_BLK: Tensor, mask_BL: Tensor, pool_BH: Tensor,
        profile_BP: Tensor, strength: float,
    ) -> Tensor:  # fmt: skip
        """error = (u − sg(m)) / sd u; pool and d carry no gradient; `strength` is λ of the reversed gradient."""
        mask_BL1 = mask_BL[..., None]
        error_BF = reverse_gradient(journey_features(error_BLK, d_BLK, mask_BL1), strength)
        view_BF = journey_features(trusted_BL[..., None], d_BLK.mean(-1, keepdim=True), mask_BL1)
        return torch.as_tensor(self.discriminate(torch.cat([error_BF, view_BF, pool_BH, profile_BP], 1))[:, 0])
