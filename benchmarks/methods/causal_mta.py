"""CausalMTA: journeys reweighted as if z had not chosen them, and a recurrent state that hides the next cluster.

    r_l = tanh(W [h_{l−1}, z]),  h = GRU(touches),   P = σ(v·Σ_l a_l tanh(U [r_l, τ_l]) + b·z + c)
    loss = w · BCE(P, y) + CE(cluster of τ_l | gradient-reversed r_l),   w from benchmarks/methods/reweighting.py
    credit_l = P(Y | T, z) − P(Y | T∖τ_l, z)

Reference: Yao, Gong, Zhang, Chen, Bi (2022), "CausalMTA: eliminating the user confounding bias for causal multi-touch
attribution", arXiv 2201.00689, re-implemented small. The paper shares an upload out by Shapley values of these
counterfactuals; a single removal is the effect that the benchmark asks for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from benchmarks.methods.interface import Method, Scores
from benchmarks.methods.journeys import with_covariates
from benchmarks.methods.reweighting import DomainClassifier, SequenceVae, cluster_loss
from benchmarks.methods.sequences import HIDDEN, TouchEncoder, masked_softmax, removal
from benchmarks.methods.training import over_touches, predictions, seeded, train
from model.adversary import reverse_gradient
from model.batch import JourneyBatch, Treatment
from model.data import JourneyTable
from model.front_door import Sizes

REVERSAL = 0.01
EPOCHS = 5


class Predictor(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.touch = TouchEncoder(sizes)
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.balance = nn.Linear(HIDDEN + sizes.profile_dim, HIDDEN)
        self.cluster = nn.Linear(HIDDEN, sizes.clusters + 1)
        self.join = nn.Linear(2 * HIDDEN, HIDDEN)
        self.attention = nn.Linear(HIDDEN, 1)
        self.head, self.user = nn.Linear(HIDDEN, 1), nn.Linear(sizes.profile_dim, 1)

    def outcome(self, t: Treatment, z_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Outcome logit [B], and the representation r that must not tell the touch's cluster [B, L, H]."""
        token_BLH = self.touch(t)
        before_BLH = nn.functional.pad(self.gru(token_BLH)[0], (0, 0, 1, 0))[:, :-1]
        user_BLP = z_BP[:, None].expand(-1, token_BLH.shape[1], -1)
        r_BLH = torch.tanh(self.balance(torch.cat([before_BLH, user_BLP], -1)))
        joint_BLH = torch.tanh(self.join(torch.cat([r_BLH, token_BLH], -1)))
        weight_BL = masked_softmax(self.attention(joint_BLH)[..., 0], t.mask_BL)
        pooled_BH = torch.einsum("bl,blh->bh", weight_BL, joint_BLH)
        return (self.head(pooled_BH) + self.user(z_BP))[:, 0], r_BLH

    def forward(self, batch: JourneyBatch) -> Tensor:
        return self.outcome(batch.treatment, batch.profile_BP)[0]

    def loss(self, batch: JourneyBatch, weight_B: Tensor) -> Tensor:
        logit_B, r_BLH = self.outcome(batch.treatment, batch.profile_BP)
        outcome = bce(logit_B, batch.label_B, weight_B)
        if not self.training:  # the epoch is picked by the outcome alone
            return outcome
        return outcome + cluster_loss(self.cluster(reverse_gradient(r_BLH, REVERSAL)), batch.treatment)


def run(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:
    known = with_covariates(table, table)
    with seeded(seed):
        vae, network = SequenceVae(known.sizes), Predictor(known.sizes)
        train(vae, vae.loss, known, seed=seed, epochs=1, min_steps=100)
        domain = DomainClassifier(vae, known.sizes)
        train(domain, domain.loss, known, seed=seed, epochs=1, min_steps=100)
        train(network, lambda batch: network.loss(batch, domain.weight(batch)), known, seed=seed, epochs=EPOCHS)

    def probability(t: Treatment, z_BP: Tensor) -> Tensor:
        return torch.sigmoid(network.outcome(t, z_BP)[0])

    credit_N = over_touches(known, row_J, lambda batch: removal(probability, batch))
    return predictions(network, table, row_J, randomised, credit_N)


CAUSAL_MTA = Method(
    name="causal-mta", family="back-door", source="from the paper (Yao et al. 2022): no package offers it", run=run
)
