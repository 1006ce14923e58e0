"""Inverse propensity weights of the observed path x → T, over content clusters.

    p(c | x) = softmax(A x + b),   log r(T, x) = Σ_l log p(c_l | x) − log p(c_l)
    w(T, x)  = exp(clip(−log r)) / mean            stabilised: the marginal p(c) stands in the numerator

exp(log r) is also how much likelier T is for x than for anybody: the weight of a bank journey as T' given x.
Reference: Robins, Hernán & Brumback (2000), "Marginal structural models and causal inference in epidemiology".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.batch import Treatment
from model.data import JourneyTable

FITTED_ON = 50_000


class Propensity(nn.Module):
    """What clusters a profile is shown. Uninformative (all weights 1) until it is fitted."""

    def __init__(self, *, profile_dim: int, clusters: int, clip: float) -> None:
        super().__init__()
        self.clip = math.log(clip)
        self.register_buffer("slope_PK", torch.zeros(profile_dim, clusters + 1))
        self.register_buffer("bias_K", torch.zeros(clusters + 1))
        self.register_buffer("log_share_K", torch.full((clusters + 1,), -math.log(clusters + 1)))
        self.register_buffer("mean_weight", torch.ones(()))

    def counts(self, t: Treatment) -> Tensor:
        """Touches of each cluster, the last being unknown. [B, K]."""
        count_BK = t.mask_BL.new_zeros(len(t.mask_BL), len(self.get_buffer("bias_K")))
        return count_BK.scatter_add(1, t.cluster_BL, t.mask_BL)

    def log_ratio(self, profile_BP: Tensor) -> Tensor:
        """log p(c | x) − log p(c); its product with counts is log r. [B, K]."""
        logit_BK = profile_BP @ self.get_buffer("slope_PK") + self.get_buffer("bias_K")
        return torch.log_softmax(logit_BK, dim=1) - self.get_buffer("log_share_K")

    def likeness(self, profile_BP: Tensor, count_JK: Tensor) -> Tensor:
        """Clipped log r of every journey for every profile. [B, J]."""
        return (self.log_ratio(profile_BP) @ count_JK.T).clamp(-self.clip, self.clip)

    def weight(self, t: Treatment, profile_BP: Tensor) -> Tensor:
        """w(T, x), of mean one over the fit split. [B]."""
        log_r_B = (self.log_ratio(profile_BP) * self.counts(t)).sum(1)
        return torch.exp((-log_r_B).clamp(-self.clip, self.clip)) / self.get_buffer("mean_weight")


def fit_propensity(propensity: Propensity, table: JourneyTable, generator: torch.Generator, ridge: float = 1.0) -> None:
    """Multinomial logistic regression of touched clusters on x, by L-BFGS on (a sample of) the fit split."""
    fit_J = table.split("fit")
    drawn_J = fit_J[torch.randperm(len(fit_J), generator=generator)[:FITTED_ON]].sort().values
    batch = table.batch(drawn_J)
    count_JK, profile_JP = propensity.counts(batch.treatment), batch.profile_BP
    share_K = (count_JK.sum(0) + 0.5) / (count_JK.sum() + 0.5 * count_JK.shape[1])
    propensity.get_buffer("log_share_K").copy_(share_K.log())
    slope_PK = torch.zeros_like(propensity.get_buffer("slope_PK"), requires_grad=True)
    bias_K = share_K.log().clone().requires_grad_()
    optimizer = torch.optim.LBFGS([slope_PK, bias_K], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        log_p_JK = torch.log_softmax(profile_JP @ slope_PK + bias_K, dim=1)
        loss = (-(count_JK * log_p_JK).sum() + ridge * slope_PK.square().sum()) / count_JK.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    propensity.get_buffer("slope_PK").copy_(slope_PK.detach())
    propensity.get_buffer("bias_K").copy_(bias_K.detach())
    propensity.get_buffer("mean_weight").copy_(propensity.weight(batch.treatment, profile_JP).mean())
