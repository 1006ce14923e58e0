"""Naive deep attribution: P(Y | T, z) by the project's own baseline network, its credits by leaving touches out.

    leave-one-out   Δ_l = P(Y=1 | T, z) − P(Y=1 | T∖τ_l, z)
    Shapley         φ_l = mean over orders of T of [P(those before l, and l) − P(those before l)], by captum

What deep attribution gives without identification. captum's sampler draws PERMUTATIONS orders a journey; touches are
its features, one mask entry each, and the empty journey, which no data show, its baseline.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.methods.interface import Method, Scores
from benchmarks.methods.journeys import with_covariates
from benchmarks.methods.packages import package
from benchmarks.methods.training import over_touches, predictions, seeded, train
from model.baselines.naive import NaiveModel, leave_one_out
from model.batch import JourneyBatch
from model.data import JourneyTable
from model.settings import ModelConfig

EPOCHS = 6
PERMUTATIONS = 8


def run_leave_one_out(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:
    with seeded(seed):
        model, known = fitted(table, seed)

    credit_N = over_touches(known, row_J, lambda batch: leave_one_out(model, batch)[0])
    return predictions(model, table, row_J, randomised, credit_N)


def run_shapley(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:
    from captum.attr import ShapleyValueSampling

    with seeded(seed):
        model, known = fitted(table, seed)
        sampler = ShapleyValueSampling(_masked_probability)

        def credits(batch: JourneyBatch) -> Tensor:
            mask_BL = batch.treatment.mask_BL
            token_BLH, user_BH = model.pool.tokens(batch.treatment), model.profile(batch.profile_BP)
            arguments = (token_BLH, user_BH, model)
            phi_BL = sampler.attribute(mask_BL, 0, additional_forward_args=arguments, n_samples=PERMUTATIONS)
            return torch.as_tensor(phi_BL)

        credit_N = over_touches(known, row_J, credits)
    return predictions(model, table, row_J, randomised, credit_N)


def _masked_probability(mask_BL: Tensor, token_BLH: Tensor, user_BH: Tensor, model: NaiveModel) -> Tensor:
    """P(Y=1) of the touches that the mask leaves; tokens are computed once, since no touch changes another's. [B]."""
    sum_BH = torch.einsum("bl,blh->bh", mask_BL, token_BLH)
    return torch.sigmoid(model.logit(model.pool.summarise(sum_BH, mask_BL.sum(1, keepdim=True)), user_BH))


def fitted(table: JourneyTable, seed: int) -> tuple[NaiveModel, JourneyTable]:
    """The network, and the table as it reads it: z in place of x."""
    known = with_covariates(table, table)
    model = NaiveModel(ModelConfig(), known.sizes)

    def loss(batch: JourneyBatch) -> Tensor:
        return binary_cross_entropy_with_logits(model(batch), batch.label_B)

    train(model, loss, known, seed=seed, epochs=EPOCHS)
    return model, known


NAIVE_DEEP = (
    Method(
        name="naive-deep", family="back-door", source="model/baselines/naive.py, this project's", run=run_leave_one_out
    ),
    Method(name="naive-shapley", family="back-door", source=package("captum"), run=run_shapley),
)
