"""InfoNCE against a queue of keys from a momentum encoder (MoCo).

    loss = −log exp(q·k⁺ / t) / (exp(q·k⁺ / t) + Σ_{k in queue} exp(q·k / t)),     θ_k ← m θ_k + (1 − m) θ_q

Reference: He et al. (2020), "Momentum contrast for unsupervised visual representation learning".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class KeyQueue(nn.Module):
    """The last Q keys, oldest out first; they carry no gradient."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys_QE", torch.zeros(size, dim))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    def held(self) -> Tensor:
        """The keys there are, in no order. [<= Q, E]."""
        keys_QE = self.get_buffer("keys_QE")
        return keys_QE[: min(int(self.get_buffer("pushed")), len(keys_QE))]

    @torch.no_grad()
    def push(self, key_BE: Tensor) -> None:
        keys_QE, pushed = self.get_buffer("keys_QE"), self.get_buffer("pushed")
        key_BE = key_BE[-len(keys_QE) :]
        slot_B = (pushed + torch.arange(len(key_BE), device=key_BE.device)) % len(keys_QE)
        keys_QE[slot_B] = key_BE.detach()
        pushed += len(key_BE)


def info_nce(query_BE: Tensor, key_BE: Tensor, queue_QE: Tensor, temperature: float) -> Tensor:
    """Mean loss of telling each query's own key from the queue's; 0 without queries or queue."""
    if not len(query_BE) or not len(queue_QE):
        return query_BE.sum() * 0
    own_B1 = (query_BE * key_BE.detach()).sum(1, keepdim=True)
    logit_BQ = torch.cat([own_B1, query_BE @ queue_QE.T], dim=1) / temperature
    return cross_entropy(logit_BQ, torch.zeros(len(query_BE), dtype=torch.int64, device=query_BE.device))


@torch.no_grad()
def follow(key_encoder: nn.Module, query_encoder: nn.Module, momentum: float) -> None:
    """θ_k ← m θ_k + (1 − m) θ_q."""
    for key, query in zip(key_encoder.parameters(), query_encoder.parameters(), strict=True):
        key.lerp_(query, 1 - momentum)
