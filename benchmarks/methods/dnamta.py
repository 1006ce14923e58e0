"""DNAMTA: an LSTM over the journey, pooled by attention that fades with age, beside user covariates.

    h = LSTM(touches),  a_l = softmax_l(u·tanh(W h_l) − λ gap_l),  P = σ(v·SiLU(A Σ_l a_l h_l + B z + b))
    credit_l = P(Y | T, z) − P(Y | T∖τ_l, z), the network run again without the touch: its incremental score

Reference: Arava, Dong, Yan, Pani, Li (2018), "Deep neural net with attention for multi-channel multi-touch
attribution", arXiv 1809.02230, re-implemented small. Its attention weights, which only share an upload out, are not
used as credits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, silu, softplus

from benchmarks.methods.interface import Method, Scores
from benchmarks.methods.journeys import with_covariates
from benchmarks.methods.sequences import HIDDEN, TouchEncoder, masked_softmax, removal
from benchmarks.methods.training import over_touches, predictions, seeded, train
from model.batch import JourneyBatch, Treatment
from model.data import JourneyTable
from model.front_door import Sizes

EPOCHS = 8


class Dnamta(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.touch = TouchEncoder(sizes)
        self.lstm = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.attention = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1, bias=False))
        self.fading = nn.Parameter(torch.tensor(-3.0))
        self.journey = nn.Linear(HIDDEN, HIDDEN)
        self.user = nn.Linear(sizes.profile_dim, HIDDEN, bias=False)
        self.head = nn.Linear(HIDDEN, 1)

    def logit(self, t: Treatment, z_BZ: Tensor) -> Tensor:
        h_BLH, _ = self.lstm(self.touch(t))
        score_BL = self.attention(h_BLH)[..., 0] - softplus(self.fading) * t.gap_hours_BL
        pooled_BH = torch.einsum("bl,blh->bh", masked_softmax(score_BL, t.mask_BL), h_BLH)
        return torch.as_tensor(self.head(silu(self.journey(pooled_BH) + self.user(z_BZ)))[:, 0])

    def forward(self, batch: JourneyBatch) -> Tensor:
        return self.logit(batch.treatment, batch.profile_BP)


def run(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:
    known = with_covariates(table, table)
    with seeded(seed):
        network = Dnamta(known.sizes)
        train(
            network,
            lambda batch: binary_cross_entropy_with_logits(network(batch), batch.label_B),
            known,
            seed=seed,
            epochs=EPOCHS,
        )

    def probability(t: Treatment, z_BZ: Tensor) -> Tensor:
        return torch.sigmoid(network.logit(t, z_BZ))

    credit_N = over_touches(known, row_J, lambda batch: removal(probability, batch))
    return predictions(network, table, row_J, randomised, credit_N)


DNAMTA = Method(
    name="dnamta", family="back-door", source="from the paper (Arava et al. 2018): no package offers it", run=run
)
