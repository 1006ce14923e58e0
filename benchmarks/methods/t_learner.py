"""T-learner, once a cluster: was it met in the journey or not?

    μ₁(z) = E[y | z, met k],  μ₀(z) = E[y | z, not met k],  τ_k = μ₁ − μ₀;      credit_l = τ_k / touches of k

Reference: Künzel, Sekhon, Bickel, Yu (2019), "Metalearners for estimating heterogeneous treatment effects". Base
learners are small boosted trees. At 20,000 users without confounding a ridge in their place, or the other clusters'
doses beside z, correlated less with the truth (at 2,000 users the ridge more).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.methods.interface import Floats, Method, Scores
from benchmarks.methods.journeys import journeys
from benchmarks.methods.packages import package
from model.data import JourneyTable

TREES: dict[str, Any] = {"n_estimators": 40, "num_leaves": 6, "learning_rate": 0.1, "min_child_samples": 100}
MIN_GROUP = 50
"""Clusters met, or missed, by fewer fit journeys get no credit."""


def run(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:
    from causalml.inference.meta import BaseTRegressor
    from lightgbm import LGBMRegressor

    data = journeys(table, row_J, randomised)
    trees = LGBMRegressor(**TREES, n_jobs=1, verbose=-1, deterministic=True, force_row_wise=True, random_state=seed)
    about = [data.asked] + ([data.randomised] if data.randomised else [])
    effect_JK = np.zeros_like(data.asked.dose_JK)
    predictions: list[list[Floats]] = [[] for _ in about]
    for k in range(effect_JK.shape[1]):
        met_J = data.fit.met_JK[:, k]
        if min(met_J.sum(), (~met_J).sum()) < MIN_GROUP:
            continue
        learner = BaseTRegressor(learner=trees)
        learner.fit(X=data.fit.covariate_JZ, treatment=met_J.astype(int), y=data.fit.label_J)
        for place, asked in enumerate(about):
            effect_J1, without_J, with_J = learner.predict(asked.covariate_JZ, return_components=True)
            predictions[place].append(np.where(asked.met_JK[:, k], with_J[1], without_J[1]))
            if place == 0:
                effect_JK[:, k] = effect_J1[:, 0]
    p_J, *p_randomised = (np.mean(each, axis=0).clip(0, 1) for each in predictions)
    return Scores(
        credit_N=data.asked.split_presence(effect_JK), p_J=p_J, p_randomised_J=p_randomised[0] if randomised else None
    )


T_LEARNER = Method(name="t-learner", family="back-door", source=package("causalml"), run=run)
