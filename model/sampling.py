"""2:3 sampling of positives and negatives, and the correction that keeps the prior.

    weighted         v_1 = π / π_s,  v_0 = (1 − π) / (1 − π_s): a sampled mean has the whole's expectation
    or trained with  logit P_s(y | ·) = logit P(y | ·) + log odds_s − log odds        (offset; served without it)

π = share of uploads in the fit split, π_s among the sampled. The front-door model takes the weights (model/module.py),
the paper's variant the offset (model/paper/). Reference: King & Zeng (2001), "Logistic regression in rare events data".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Share of uploads before and after sampling."""

    share: float
    sampled: float

    @property
    def offset(self) -> float:
        """Added to the logit in training."""
        return math.log(self.sampled / (1 - self.sampled)) - math.log(self.share / (1 - self.share))

    def weight(self, label_B: Tensor) -> Tensor:
        """v_y: what makes a sampled mean the population's. [B]."""
        return torch.where(label_B > 0, self.share / self.sampled, (1 - self.share) / (1 - self.sampled))


def negatives(label_J: Tensor, negatives_per_positive: float) -> int:
    """How many journeys without an upload an epoch draws; 0 asked = all there are."""
    positives = int((label_J > 0).sum())
    there = len(label_J) - positives
    return min(round(negatives_per_positive * positives), there) if negatives_per_positive else there


def journeys_an_epoch(label_J: Tensor, negatives_per_positive: float) -> int:
    """All positives and the negatives that are drawn."""
    return int((label_J > 0).sum()) + negatives(label_J, negatives_per_positive)


def plan_prior(label_J: Tensor, negatives_per_positive: float) -> Prior:
    positives = int((label_J > 0).sum())
    drawn = negatives(label_J, negatives_per_positive)
    return Prior(share=positives / len(label_J), sampled=positives / (positives + drawn))


def draw(label_J: Tensor, negatives_per_positive: float, generator: torch.Generator) -> Tensor:
    """Positions of all positives and of as many negatives, drawn without replacement, sorted."""
    positive, negative = (label_J > 0).nonzero()[:, 0], (label_J == 0).nonzero()[:, 0]
    chosen = torch.randperm(len(negative), generator=generator)[: negatives(label_J, negatives_per_positive)]
    return torch.cat([positive, negative[chosen]]).sort().values
