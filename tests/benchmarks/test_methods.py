"""Every peer on one randomised toy: cluster 0 makes uploads, cluster 1 prevents them, the other ten do nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from small_world import Prepared

from benchmarks.methods import METHODS, Scores
from benchmarks.methods.dml import effects
from benchmarks.methods.journeys import journeys, with_covariates
from benchmarks.methods.naive_deep import fitted
from benchmarks.methods.packages import package
from benchmarks.methods.training import over_journeys, over_touches, seeded
from model.baselines.naive import leave_one_out
from model.data import HOUR_US, JourneyTable, load_journeys

CLUSTERS = 12
OWN = {"ours", "paper-variant"}  # tested where they are built
PEERS = [name for name, method in METHODS.items() if not {"heuristic", *OWN} & {name, method.family}]
HEURISTICS = [name for name, method in METHODS.items() if method.family == "heuristic"]
# Nothing is hidden in the toy, so whoever models outcomes must find what every touch does.
EXACT = ("logistic-regression", "gradient-boosting", "dose-ridge", "dml", "t-learner", "fd-dr", "fd-r", "naive-deep")
Run = Callable[[str], Scores]


@pytest.fixture(scope="module")
def world(prepared: Prepared) -> JourneyTable:
    return load_journeys(prepared.journeys, prepared.data)


def touches_of(table: JourneyTable) -> np.ndarray:
    """Rows of the touch table, journey after journey."""
    spans = zip(table.offset_J.tolist(), table.length_J.tolist(), strict=True)
    return np.concatenate([np.arange(offset, offset + length) for offset, length in spans])


def toy_of(world: JourneyTable, seed: int) -> JourneyTable:
    """The small world's journeys, users and times, with exposure at random and mediated effects of two clusters.

    m = effect of the cluster + noise, logit y = −1.5 + Σ m + x₀, responses = noisy functions of m.
    """
    rng = np.random.default_rng(seed)
    touches, effect_K = len(world.touch_cluster_N), np.array([0.8, -0.8] + [0.0] * (CLUSTERS - 2))
    cluster_N = rng.integers(0, CLUSTERS, touches)
    mediator_N = effect_K[cluster_N] + 0.3 * rng.standard_normal(touches)
    journey_N = np.repeat(np.arange(len(world.keys)), world.length_J)
    position_N = touches_of(world)
    total_J = np.bincount(journey_N, mediator_N[position_N], len(world.keys))
    logit_J = -1.5 + total_J + world.profile_JP[:, 0].numpy()
    response_NR = (mediator_N[:, None] + 0.3 * rng.standard_normal((touches, world.response_NR.shape[1]))).clip(-1, 1)
    return replace(
        world,
        touch_cluster_N=torch.tensor(cluster_N),
        label_J=torch.tensor((rng.random(len(logit_J)) < 1 / (1 + np.exp(-logit_J))).astype(np.float32)),
        response_NR=torch.tensor(response_NR / 2 + 0.5, dtype=torch.float32),
    )


@pytest.fixture(scope="module")
def toy(world: JourneyTable) -> JourneyTable:
    return toy_of(world, 0)


@pytest.fixture(scope="module")
def scores(toy: JourneyTable, world: JourneyTable) -> Run:
    """Each method's scores of the toy's judge rows, run once."""
    trial = toy_of(world, 1)
    return cache(lambda name: METHODS[name].run(toy, toy.split("judge"), trial, 5))


def auc(label_J: np.ndarray, p_J: np.ndarray) -> float:
    positive, negative = p_J[label_J > 0], p_J[label_J == 0]
    return float((positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean())


@pytest.mark.parametrize("name", [*HEURISTICS, *PEERS])
def test_every_touch_of_the_rows_gets_a_finite_credit(name: str, toy: JourneyTable, scores: Run) -> None:
    credit_N = scores(name).credit_N
    assert credit_N.shape == (int(toy.length_J[toy.split("judge")].sum()),)
    assert credit_N.dtype == np.float64
    assert np.isfinite(credit_N).all()


@pytest.mark.parametrize("name", PEERS)
def test_outcome_models_predict_better_than_chance(name: str, toy: JourneyTable, scores: Run) -> None:
    found = scores(name)
    if METHODS[name].family == "front-door" and found.p_J is None:
        assert found.p_randomised_J is None
        return
    assert found.p_J is not None
    assert found.p_randomised_J is not None
    assert len(found.p_randomised_J) == len(toy.keys)
    assert ((found.p_J >= 0) & (found.p_J <= 1)).all()
    assert auc(toy.label_J[toy.split("judge")].numpy(), found.p_J) > 0.55


@pytest.mark.parametrize("name", EXACT)
def test_unconfounded_clusters_are_ranked_rightly(name: str, toy: JourneyTable, scores: Run) -> None:
    asked, credit_N = journeys(toy, toy.split("judge"), None).asked, scores(name).credit_N
    mean_K = np.bincount(asked.column_N, credit_N, CLUSTERS) / np.bincount(asked.column_N, minlength=CLUSTERS)
    assert mean_K.argmax() == 0
    assert mean_K.argmin() == 1


@pytest.mark.parametrize("name", ["logistic-regression", "dml"])
def test_credits_are_changes_of_a_probability(name: str, toy: JourneyTable, scores: Run) -> None:
    """The mean effect of a touch of cluster 0 is p(1 − p) · .8 or so, with p averaging about .3."""
    asked, credit_N = journeys(toy, toy.split("judge"), None).asked, scores(name).credit_N
    assert 0.05 < credit_N[asked.column_N == 0].mean() < 0.2


@pytest.mark.parametrize(
    "name", ["logistic-regression", "gradient-boosting", "dml", "t-learner", "descn", "naive-shapley"]
)
def test_a_seed_is_the_whole_answer_and_judge_labels_and_responses_are_not_read(
    name: str, toy: JourneyTable, scores: Run
) -> None:
    judge_J = toy.split("judge")
    label_J = toy.label_J.clone()
    label_J[judge_J] = 1 - label_J[judge_J]
    before = torch.random.get_rng_state()
    blind = METHODS[name].run(
        replace(toy, label_J=label_J, response_NR=torch.zeros_like(toy.response_NR)), judge_J, None, 5
    )
    np.testing.assert_array_equal(blind.credit_N, scores(name).credit_N)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", HEURISTICS)
def test_heuristics_share_out_exactly_the_uploads(name: str, toy: JourneyTable, scores: Run) -> None:
    asked = journeys(toy, toy.split("judge"), None).asked
    paid_J = np.bincount(asked.journey_N, scores(name).credit_N, len(asked.label_J))
    np.testing.assert_allclose(paid_J, asked.label_J, atol=1e-6)
    assert scores(name).p_J is None


def test_markov_effects_are_those_of_the_absorbing_chain(toy: JourneyTable, scores: Run) -> None:
    """RE_k from transition counts by hand: credits of a journey stand in proportion to them."""
    data = journeys(toy, toy.split("judge"), None)
    ends_J = np.cumsum(np.bincount(data.fit.journey_N))
    start, upload, nothing = CLUSTERS, CLUSTERS + 1, CLUSTERS + 2
    count = np.zeros((CLUSTERS + 3, CLUSTERS + 3))
    for path, label in zip(np.split(data.fit.column_N, ends_J[:-1]), data.fit.label_J, strict=True):
        chain = [start, *path, upload if label else nothing]
        np.add.at(count, (chain[:-1], chain[1:]), 1)
    step = count[: CLUSTERS + 1] / count[: CLUSTERS + 1].sum(1, keepdims=True)

    def conversion(without: int | None) -> float:
        moves = step[:, : CLUSTERS + 1].copy()
        if without is not None:
            moves[:, without] = 0
        return float(np.linalg.solve(np.eye(CLUSTERS + 1) - moves, step[:, upload])[start])

    effect_K = np.array([1 - conversion(k) / conversion(None) for k in range(CLUSTERS)])
    weight_N = effect_K[data.asked.column_N]
    share_N = weight_N / np.bincount(data.asked.journey_N, weight_N)[data.asked.journey_N]
    expected_N = share_N * data.asked.label_J[data.asked.journey_N]
    np.testing.assert_allclose(scores("markov").credit_N, expected_N, rtol=1e-9)


def test_channel_shapley_is_the_average_over_all_orders(toy: JourneyTable) -> None:
    """Three clusters: φ from the 3! orders of v(S) = uploads of journeys within S."""
    three = replace(toy, touch_cluster_N=toy.touch_cluster_N % 3)
    asked = journeys(three, three.split("judge"), None).asked

    def value(coalition: tuple[int, ...]) -> float:
        within_J = ~np.delete(asked.met_JK, list(coalition), axis=1).any(1)
        return float(asked.label_J[within_J].sum())

    phi_K = np.zeros(3)
    for order in itertools.permutations(range(3)):
        for place, k in enumerate(order):
            phi_K[k] += (value(order[: place + 1]) - value(order[:place])) / math.factorial(3)
    credit_N = METHODS["shapley-channels"].run(three, three.split("judge"), None, 0).credit_N
    np.testing.assert_allclose(np.bincount(asked.column_N, credit_N), phi_K, rtol=1e-9)


def test_captum_shares_out_the_whole_difference_that_the_journey_makes(toy: JourneyTable, scores: Run) -> None:
    rows_J = toy.split("judge")
    with seeded(5):
        model, known = fitted(toy, 5)
    p_J = over_journeys(known, rows_J, lambda batch: leave_one_out(model, batch)[1])
    p_none_J = over_journeys(known, rows_J, lambda batch: leave_one_out(model, batch)[2])
    journey_N = np.repeat(np.arange(len(rows_J)), toy.length_J[rows_J])
    np.testing.assert_allclose(np.bincount(journey_N, scores("naive-shapley").credit_N), p_J - p_none_J, atol=1e-5)


def test_journeys_in_numbers(toy: JourneyTable) -> None:
    """Dose and count of one journey by hand; clusters that the fit split never saw get nothing."""
    row, unseen = int(toy.split("judge")[3]), 4
    fit_N = touches_of(toy)
    in_fit_N = np.repeat((toy.keys["split"] == "fit").to_numpy(), toy.length_J)
    cluster_N = toy.touch_cluster_N.clone()
    hidden_N = fit_N[in_fit_N][cluster_N[fit_N[in_fit_N]].numpy() == unseen]
    cluster_N[hidden_N] = 0
    asked = journeys(replace(toy, touch_cluster_N=cluster_N), torch.tensor([row]), None).asked
    dose, count = dict.fromkeys(range(CLUSTERS), 0.0), dict.fromkeys(range(CLUSTERS), 0)
    for at in range(int(toy.offset_J[row]), int(toy.offset_J[row] + toy.length_J[row])):
        hours = float(toy.t_obs_J[row] - toy.touch_ts_N[at]) / HOUR_US
        dose[int(cluster_N[at])] += math.exp(-hours / 24)
        count[int(cluster_N[at])] += 1
    assert unseen not in asked.cluster_K
    np.testing.assert_allclose(asked.dose_JK[0], [dose[k] for k in asked.cluster_K])
    assert asked.count_JK[0].tolist() == [count[k] for k in asked.cluster_K]
    paid_N = asked.split_presence(np.ones_like(asked.dose_JK))
    known_N = asked.column_N < len(asked.cluster_K)
    assert paid_N[~known_N].tolist() == [0.0] * count[unseen]
    assert paid_N.sum() == pytest.approx(asked.met_JK.sum())


def test_covariates_hold_the_negative_control_and_are_scaled_by_the_fit_split(toy: JourneyTable) -> None:
    known = with_covariates(toy, toy)
    z_JZ = known.profile_JP[toy.split("fit")]
    assert z_JZ.shape[1] == toy.profile_JP.shape[1] + toy.control_JC.shape[1]
    assert float(z_JZ.mean(0).abs().max()) < 1e-4
    assert float(z_JZ.std(0, correction=0).max()) == pytest.approx(1, abs=1e-3)


def test_touches_come_back_in_the_rows_order_whatever_their_lengths(toy: JourneyTable) -> None:
    rng = np.random.default_rng(0)
    length_J = torch.tensor(rng.integers(1, toy.length_J.numpy() + 1))
    uneven, rows_J = replace(toy, length_J=length_J), toy.split("judge").flip(0)
    gap_N = over_touches(uneven, rows_J, lambda batch: batch.treatment.gap_hours_BL)
    decay_N = journeys(uneven, rows_J, None).asked.decay_N
    np.testing.assert_allclose(np.exp(-gap_N / 24), decay_N, rtol=1e-5)


def test_a_source_names_the_installed_version_or_how_to_get_it() -> None:
    assert METHODS["dml"].source.split() == ["econml", package("econml").split()[1]]
    assert package("no-such-peer") == "no-such-peer (not installed: pip install 'alm-mta[bench]')"


def test_dml_effects_are_those_that_econml_computes() -> None:
    from econml.dml import DML
    from sklearn.linear_model import LinearRegression

    rng = np.random.default_rng(0)
    z_JZ, dose_JK = rng.standard_normal((400, 2)), rng.standard_normal((400, 3))
    label_J = dose_JK[:, 0] * (1 + z_JZ[:, 1]) - dose_JK[:, 2] + 0.1 * rng.standard_normal(400)
    linear, final = LinearRegression(), LinearRegression(fit_intercept=False)
    model = DML(model_y=linear, model_t=linear, model_final=final, random_state=0).fit(label_J, dose_JK, X=z_JZ)
    found_JK = effects(model, z_JZ)
    np.testing.assert_allclose(found_JK, model.const_marginal_effect(z_JZ), atol=1e-10)
    np.testing.assert_allclose(found_JK[:, 0], 1 + z_JZ[:, 1], atol=0.2)
