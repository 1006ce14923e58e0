"""Outcome regressions on cluster doses and covariates z, and what each says of removing a touch.

    logistic           P = σ(b + β·dose + γ·z)                       credit_l = P − P(dose_k − d_l)
    gradient boosting  P = trees(dose, z)                            the same
    ridge              E[y] = b + Σ_k dose_k (β_k + G_k·z) + q(z)    credit_l = d_l (β_k + G_k·z)

Adjusting for all that is observed is their whole identification: right without hidden intent, biased with it. With
journeys of one length the doses nearly add up and their level is anyone's guess, so penalties are chosen on the
selection split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.methods.interface import Floats, Method, Scores
from benchmarks.methods.journeys import Data, Journeys, journeys
from benchmarks.methods.packages import package
from model.data import JourneyTable

ROWS_A_CHUNK = 65_536
LOGISTIC_PENALTIES = (1e1, 1e2, 1e3)
RIDGE_PENALTIES = (1e2, 1e3, 1e4)
RIDGE_ROWS = 150_000

Predict = Callable[[Floats], Floats]
"""Features -> P(Y=1). [J, F] -> [J]."""


def run_logistic(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:  # noqa: ARG001
    from sklearn.linear_model import LogisticRegression

    data = journeys(table, row_J, randomised)
    models = [LogisticRegression(C=1 / penalty, max_iter=500) for penalty in LOGISTIC_PENALTIES]
    return _removal(data, _probability(_best(models, data, _additive, _probability)))


def run_boosting(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    data = journeys(table, row_J, randomised)
    trees = HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=50, random_state=seed
    )
    with threadpool_limits(1):  # more threads mostly wait for each other where cores are shared
        return _removal(data, _probability(trees.fit(_additive(data.fit), data.fit.label_J)))


def run_ridge(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:
    from sklearn.linear_model import Ridge

    data = journeys(table, row_J, randomised, fit_rows=RIDGE_ROWS, seed=seed)
    models = [Ridge(penalty, solver="cholesky") for penalty in RIDGE_PENALTIES]
    model = _best(models, data, _interacting, _expectation)
    K, Z = data.fit.dose_JK.shape[1], data.fit.covariate_JZ.shape[1]
    slope_FK = model.coef_[: K * (1 + Z)].reshape(1 + Z, K)
    asked, predict = data.asked, _expectation(model)
    slope_JK = slope_FK[0] + asked.covariate_JZ @ slope_FK[1:]
    return Scores(
        credit_N=asked.of_touches(slope_JK) * asked.decay_N,
        p_J=predict(_interacting(asked)),
        p_randomised_J=predict(_interacting(data.randomised)) if data.randomised else None,
    )


def _best(
    models: Iterable[Any], data: Data, features: Callable[[Journeys], Floats], predictor: Callable[[Any], Predict]
) -> Any:
    """The fitted model of least log-loss on the selection split."""
    fit_JF, selection_JF, label_J = features(data.fit), features(data.selection), data.selection.label_J

    def loss(model: Any) -> float:
        p_J = predictor(model.fit(fit_JF, data.fit.label_J))(selection_JF).clip(1e-3, 1 - 1e-3)
        return float(-np.where(label_J > 0, np.log(p_J), np.log1p(-p_J)).mean())

    return min(models, key=loss)


def _probability(classifier: Any) -> Predict:
    def predict(features_JF: Floats) -> Floats:
        chunks = range(0, len(features_JF), ROWS_A_CHUNK)
        return np.concatenate([classifier.predict_proba(features_JF[at : at + ROWS_A_CHUNK])[:, 1] for at in chunks])

    return predict


def _expectation(regressor: Any) -> Predict:
    return lambda features_JF: regressor.predict(features_JF).clip(0, 1).astype(np.float64)


def _removal(data: Data, predict: Predict) -> Scores:
    """Credits by taking one touch's dose away."""
    asked, features_JF = data.asked, _additive(data.asked)
    p_J, credit_N = predict(features_JF), np.zeros(len(asked.journey_N))
    known_N = np.flatnonzero(asked.column_N < asked.dose_JK.shape[1])
    for touch_N in np.split(known_N, range(ROWS_A_CHUNK, len(known_N), ROWS_A_CHUNK)):
        journey_N = asked.journey_N[touch_N]
        without_NF = features_JF[journey_N]
        without_NF[np.arange(len(touch_N)), asked.column_N[touch_N]] -= asked.decay_N[touch_N]
        credit_N[touch_N] = p_J[journey_N] - predict(without_NF)
    p_randomised_J = predict(_additive(data.randomised)) if data.randomised else None
    return Scores(credit_N=credit_N, p_J=p_J, p_randomised_J=p_randomised_J)


def _additive(data: Journeys) -> Floats:
    """[dose, z]."""
    return np.concatenate([data.dose_JK, data.covariate_JZ], 1)


def _interacting(data: Journeys) -> Floats:
    """[dose, z ⊗ dose, z, z²]; clusters run fastest. Single precision, since it is the widest array here."""
    z_JZ = data.covariate_JZ.astype(np.float32)
    crossed_JZK = z_JZ[:, :, None] * data.dose_JK.astype(np.float32)[:, None, :]
    blocks = [data.dose_JK, crossed_JZK.reshape(len(z_JZ), -1), z_JZ, z_JZ**2]
    return np.concatenate(blocks, 1, dtype=np.float32, casting="same_kind")


SOURCE = package("scikit-learn")
REGRESSIONS = (
    Method(name="logistic-regression", family="back-door", source=SOURCE, run=run_logistic),
    Method(name="gradient-boosting", family="back-door", source=SOURCE, run=run_boosting),
    Method(name="dose-ridge", family="back-door", source=SOURCE, run=run_ridge),
)
