"""CausalMTA's journey weights: how much rarer users like this one make the journey than everyone together does.

    w(T, z) = p(T) / p(T|z) = 1 / E_{ζ~q(ζ|T)} [d / (1 − d)](ζ, z)

q(ζ|T) is a recurrent variational autoencoder of the cluster sequence; d tells (ζ, z) from (ζ, another's z). E is the
size of ζ.
Reference: Zou et al. (2020), "Counterfactual prediction for bundle treatment", which CausalMTA builds on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy

from benchmarks.methods.sequences import HIDDEN
from model.batch import JourneyBatch, Treatment
from model.front_door import Sizes

LATENT, SAMPLES = 8, 4
KL_WEIGHT, MAX_WEIGHT = 0.1, 10.0


class SequenceVae(nn.Module):
    """q(ζ | T) and p(T | ζ) over the sequence of clusters."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embed = nn.Embedding(sizes.clusters + 1, HIDDEN)
        self.encode = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.moments = nn.Linear(HIDDEN, 2 * LATENT)
        self.start = nn.Linear(LATENT, HIDDEN)
        self.decode = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.cluster = nn.Linear(HIDDEN, sizes.clusters + 1)

    def posterior(self, t: Treatment) -> tuple[Tensor, Tensor]:
        state_BLH, _ = self.encode(self.embed(t.cluster_BL))
        last_B = t.mask_BL.sum(1).long() - 1
        mean_BE, log_sd_BE = self.moments(state_BLH[torch.arange(len(last_B)), last_B]).chunk(2, -1)
        return mean_BE, log_sd_BE.clamp(-4, 2)

    def loss(self, batch: JourneyBatch) -> Tensor:
        t, (mean_BE, log_sd_BE) = batch.treatment, self.posterior(batch.treatment)
        latent_BE = _draw(mean_BE, log_sd_BE)
        before_BLH = nn.functional.pad(self.embed(t.cluster_BL), (0, 0, 1, 0))[:, :-1]
        state_BLH, _ = self.decode(before_BLH, torch.tanh(self.start(latent_BE))[None])
        kl_B = 0.5 * (mean_BE**2 + (2 * log_sd_BE).exp() - 1 - 2 * log_sd_BE).sum(1)
        return cluster_loss(self.cluster(state_BLH), t) + KL_WEIGHT * kl_B.mean()


class DomainClassifier(nn.Module):
    """Logit of d(ζ, z): do this journey and this user belong together?"""

    def __init__(self, vae: SequenceVae, sizes: Sizes) -> None:
        super().__init__()
        self.vae = vae.requires_grad_(False)
        self.net = nn.Sequential(nn.Linear(LATENT + sizes.profile_dim, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 1))

    def logit(self, latent_BE: Tensor, z_BP: Tensor) -> Tensor:
        return torch.as_tensor(self.net(torch.cat([latent_BE, z_BP], 1))[:, 0])

    def loss(self, batch: JourneyBatch) -> Tensor:
        latent_BE, z_BP = _draw(*self.vae.posterior(batch.treatment)), batch.profile_BP
        own_B, other_B = self.logit(latent_BE, z_BP), self.logit(latent_BE, z_BP.roll(1, 0))
        return bce(own_B, torch.ones_like(own_B)) + bce(other_B, torch.zeros_like(other_B))

    @torch.no_grad()
    def weight(self, batch: JourneyBatch) -> Tensor:
        """w of every journey, bounded, with mean 1 over the batch. [B]."""
        posterior = self.vae.posterior(batch.treatment)
        odds_SB = torch.stack([self.logit(_draw(*posterior), batch.profile_BP).exp() for _ in range(SAMPLES)])
        weight_B = (1 / odds_SB.mean(0).clamp_min(1e-6)).clamp(1 / MAX_WEIGHT, MAX_WEIGHT)
        return weight_B / weight_B.mean()


def _draw(mean_BE: Tensor, log_sd_BE: Tensor) -> Tensor:
    return mean_BE + log_sd_BE.exp() * torch.randn_like(mean_BE)


def cluster_loss(logit_BLK: Tensor, t: Treatment) -> Tensor:
    """Mean cross-entropy of the touches' clusters."""
    real_BL = t.mask_BL.bool()
    return cross_entropy(logit_BLK[real_BL], t.cluster_BL[real_BL])
