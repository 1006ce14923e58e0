"""What one touched item is: its content embedding beside a learned embedding of its cluster."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ContentEncoder(nn.Module):
    """(cluster, content) -> [.., H]. The last cluster index means unknown."""

    def __init__(self, clusters: int, content_dim: int, hidden: int) -> None:
        super().__init__()
        self.cluster = nn.Embedding(clusters + 1, hidden)
        nn.init.normal_(self.cluster.weight, std=0.1)
        nn.init.zeros_(self.cluster.weight.data[-1])  # no batch ever trains it
        self.content = nn.Linear(content_dim, hidden)

    def forward(self, cluster: Tensor, content: Tensor) -> Tensor:
        return torch.as_tensor(self.cluster(cluster) + self.content(content))
