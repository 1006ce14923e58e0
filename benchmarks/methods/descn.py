"""DESCN: one network for propensity, both outcomes and their difference, trained on the entire space and crosswise.

    w = 1[the journey met cluster k];  inputs z and an embedding of k;  π, μ₁, μ₀ are probabilities, τ is on the logit
    loss = BCE(π, w) + BCE(π μ₁, w y) + BCE((1 − π) μ₀, (1 − w) y)
         + BCE(σ(logit μ₀ + τ), y | w = 1) + BCE(σ(logit μ₁ − τ), y | w = 0)
    credit_l = (μ₁ − μ₀)(z, k) / touches of k

Reference: Zhong, Xiao, Ren, Liang, Yao, Yang, Cen (2022), "DESCN: deep entire space cross networks for individual
treatment effect estimation", arXiv 2207.09920, re-implemented small, with one network for all clusters.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy as bce

from benchmarks.methods.interface import Floats, Method, Scores
from benchmarks.methods.journeys import Journeys, journeys, with_covariates
from benchmarks.methods.training import seeded, train
from model.batch import JourneyBatch
from model.data import JourneyTable
from model.front_door import Sizes

HIDDEN, CLUSTERS_A_JOURNEY, EPOCHS, EPS = 32, 8, 6, 1e-4


class Descn(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.clusters = sizes.clusters
        self.cluster = nn.Embedding(sizes.clusters + 1, HIDDEN)
        self.user = nn.Linear(sizes.profile_dim, HIDDEN)
        self.trunk = nn.Sequential(nn.ELU(), nn.Linear(HIDDEN, HIDDEN), nn.ELU())
        self.heads = nn.Linear(HIDDEN, 4)

    def forward(self, z_BP: Tensor, cluster_BM: Tensor) -> Tensor:
        """Logits of π, μ₁, μ₀ and τ for M clusters a journey. [4, B, M]."""
        hidden_BMH = self.trunk(self.user(z_BP)[:, None] + self.cluster(cluster_BM))
        return torch.as_tensor(self.heads(hidden_BMH)).movedim(-1, 0)

    def loss(self, batch: JourneyBatch) -> Tensor:
        t, shape = batch.treatment, (len(batch.label_B), CLUSTERS_A_JOURNEY)
        cluster_BM = torch.randint(0, self.clusters, shape)
        met_BML = (t.cluster_BL[:, None] == cluster_BM[..., None]) & t.mask_BL[:, None].bool()
        w_BM, y_BM = met_BML.any(-1).float(), batch.label_B[:, None].expand(shape)
        pi, mu1, mu0, tau = self(batch.profile_BP, cluster_BM)
        p, p1, p0 = (torch.sigmoid(logit).clamp(EPS, 1 - EPS) for logit in (pi, mu1, mu0))
        crossed = torch.sigmoid(torch.where(w_BM > 0, mu0 + tau, mu1 - tau)).clamp(EPS, 1 - EPS)
        entire = bce(p, w_BM) + bce(p * p1, w_BM * y_BM) + bce((1 - p) * p0, (1 - w_BM) * y_BM)
        return entire + bce(crossed, y_BM)

    @torch.no_grad()
    def outcomes(self, data: Journeys) -> tuple[Floats, Floats]:
        """μ₁ and μ₀ of every cluster that the fit split saw. [J, K] twice."""
        cluster_K, z_JP = torch.from_numpy(data.cluster_K), torch.from_numpy(data.covariate_JZ).float()
        chunks = [self(z_BP, cluster_K.expand(len(z_BP), -1))[1:3] for z_BP in torch.split(z_JP, 4096)]
        mu1_JK, mu0_JK = torch.sigmoid(torch.cat(chunks, 1)).double().numpy()
        return mu1_JK, mu0_JK


def run(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:
    known = with_covariates(table, table)
    with seeded(seed):
        network = Descn(known.sizes)
        train(network, network.loss, known, seed=seed, epochs=EPOCHS)
    data = journeys(table, row_J, randomised)
    mu1_JK, mu0_JK = network.outcomes(data.asked)

    def probability(about: Journeys) -> Floats:
        """The factual outcome, averaged over clusters."""
        mu1_JK, mu0_JK = network.outcomes(about)
        return np.asarray(np.where(about.met_JK, mu1_JK, mu0_JK).mean(1))

    return Scores(
        credit_N=data.asked.split_presence(mu1_JK - mu0_JK),
        p_J=probability(data.asked),
        p_randomised_J=probability(data.randomised) if data.randomised else None,
    )


DESCN = Method(
    name="descn", family="back-door", source="from the paper (Zhong et al. 2022): no package offers it", run=run
)
