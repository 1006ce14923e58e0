"""Double machine learning: all cluster doses at once as treatments, whose effects may vary with z.

    y − E[y|z] = Σ_k (β_k + G_k·z) (dose_k − E[dose_k|z]) + noise,  expectations cross-fitted
    credit_l = d_l (β_k + G_k·z)

Reference: Chernozhukov et al. (2018), "Double/debiased machine learning for treatment and structural parameters".
The last stage is a ridge, as econml allows: with 40 treatments times Z modifiers least squares is mostly noise.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
from torch import Tensor

from benchmarks.methods.interface import Floats, Method, Scores
from benchmarks.methods.journeys import Journeys, journeys
from benchmarks.methods.packages import package
from model.data import JourneyTable

FIT_ROWS = 100_000
NUISANCE_PENALTY = 1e2
EFFECT_PENALTY = 1e3


def run(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:
    import econml.dml
    from econml.dml._rlearner import _ModelFinal
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    def nuisance() -> Any:
        return make_pipeline(PolynomialFeatures(2, include_bias=False), Ridge(NUISANCE_PENALTY, solver="cholesky"))

    data = journeys(table, row_J, randomised, fit_rows=FIT_ROWS, seed=seed)
    dml = econml.dml.DML(
        model_y=nuisance(),
        model_t=nuisance(),
        model_final=Ridge(EFFECT_PENALTY, solver="cholesky", fit_intercept=False),
        cv=2,
        random_state=seed,
    )
    # The score that fit computes of itself would hold [J, K, K (1 + Z)] numbers, 12 GB at 56,000 journeys.
    with patch.object(_ModelFinal, "score", return_value=np.nan):
        dml.fit(data.fit.label_J, data.fit.dose_JK, X=data.fit.covariate_JZ)
    asked = data.asked
    return Scores(
        credit_N=asked.of_touches(effects(dml, asked.covariate_JZ)) * asked.decay_N,
        p_J=_probability(dml, asked),
        p_randomised_J=_probability(dml, data.randomised) if data.randomised else None,
    )


def effects(dml: Any, z_JZ: Floats) -> Floats:
    """β_k + G_k·z of every journey; econml's const_marginal_effect would build that array too. -> [J, K]."""
    return np.asarray(dml.intercept_ + z_JZ @ dml.coef_.T)


def _probability(dml: Any, data: Journeys) -> Floats:
    """E[y|z] + (dose − E[dose|z]) · effect, the expectations averaged over folds."""
    outcome_J = np.mean([model.predict(data.covariate_JZ) for model in dml.models_y[0]], axis=0).ravel()
    dose_JK = np.mean([model.predict(data.covariate_JZ) for model in dml.models_t[0]], axis=0)
    return np.asarray((outcome_J + ((data.dose_JK - dose_JK) * effects(dml, data.covariate_JZ)).sum(1)).clip(0, 1))


DML = Method(name="dml", family="back-door", source=package("econml"), run=run)
