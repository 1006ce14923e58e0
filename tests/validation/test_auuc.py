"""AUUC: a small example by hand, its bounds, and what it is blind to."""

from __future__ import annotations

import numpy as np
import pytest

from validation.auuc import (
    area_of,
    area_per_bucket,
    cross_fitted_oracle,
    gain_curve,
    level_normalised,
    luck_area,
    normalised,
    oracle_area,
    positions,
)
from validation.judge_arrays import Exposure
from validation.shards import draw_replicates
from validation.uplift import Uplift

U_BK = np.array([[3.0, 1.0, 2.0]])
W_BK = np.array([[0.2, 0.5, 0.3]])


def test_area_of_a_small_example() -> None:
    """Best order is k = 0, 2, 1: mid-ranks .1, .75, .35, so

    A = .2·3·(.5 − .1) + .5·1·(.5 − .75) + .3·2·(.5 − .35) = .24 − .125 + .09 = .205.
    """
    s_BK = positions(U_BK, W_BK)
    np.testing.assert_allclose(s_BK, [[0.1, 0.75, 0.35]])
    np.testing.assert_allclose(area_per_bucket(U_BK, s_BK, W_BK), [0.205])


def test_ties_share_one_position() -> None:
    np.testing.assert_allclose(positions(np.zeros((1, 3)), W_BK), [[0.5, 0.5, 0.5]])
    np.testing.assert_allclose(positions(np.array([[1.0, 1.0, 0.0]]), W_BK), [[0.35, 0.35, 0.85]])


def test_area_is_the_area_under_the_curve() -> None:
    """The curve is centred, so its trapezoids sum to A."""
    curve = gain_curve(U_BK, U_BK[0], W_BK[0], boot=None)
    assert np.trapezoid(curve.gain, curve.share) == pytest.approx(0.205)
    assert curve.gain[-1] == pytest.approx(0.0)
    assert curve.low is None


def test_area_ignores_the_level_of_uplift_and_monotone_changes_of_scores() -> None:
    rng = np.random.default_rng(0)
    u_BK, score_BK, w_BK = rng.normal(size=(2, 9)), rng.normal(size=(2, 9)), rng.dirichlet(np.ones(9), 2)
    area = area_per_bucket(u_BK, positions(score_BK, w_BK), w_BK)
    np.testing.assert_allclose(area_per_bucket(u_BK + 7, positions(score_BK, w_BK), w_BK), area)
    np.testing.assert_allclose(area_per_bucket(u_BK, positions(np.exp(score_BK), w_BK), w_BK), area)


def test_order_of_clusters_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    u_BK, score_BK, w_BK = rng.normal(size=(2, 9)), rng.integers(0, 4, (2, 9)), rng.dirichlet(np.ones(9), 2)
    turn = rng.permutation(9)
    area = area_per_bucket(u_BK, positions(score_BK, w_BK), w_BK)
    turned = area_per_bucket(u_BK[:, turn], positions(score_BK[:, turn], w_BK[:, turn]), w_BK[:, turn])
    np.testing.assert_allclose(turned, area)


def test_oracle_is_one_reverse_is_zero_random_is_half() -> None:
    rng = np.random.default_rng(2)
    u_BK, w_BK = rng.normal(size=(1, 30)), rng.dirichlet(np.ones(30), 1)
    oracle = oracle_area(u_BK, w_BK)[0]

    def of(score_BK: np.ndarray) -> float:
        value = normalised(area_per_bucket(u_BK, positions(score_BK, w_BK), w_BK)[0], oracle)
        assert value is not None
        return value

    assert of(u_BK) == pytest.approx(1.0)
    assert of(-u_BK) == pytest.approx(0.0)
    random = [of(rng.normal(size=(1, 30))) for _ in range(400)]
    assert np.mean(random) == pytest.approx(0.5, abs=0.02)
    assert max(random) < 1.0


def test_no_effect_has_no_normalised_area() -> None:
    assert normalised(0.1, 0.0) is None
    assert normalised(0.1, -0.2) is None


def test_cross_fitted_oracle_is_honest_about_noise() -> None:
    """Pure noise: in one sample the best order looks good, scored on the other half it is worth nothing."""
    rng = np.random.default_rng(3)
    replicates = draw_replicates(100, 20, half_pairs=50, seed=0)
    w_BK = np.full((1, 30), 1 / 30)
    u_RBK = rng.normal(size=(len(replicates.weight_RS), 1, 30))
    in_sample = oracle_area(u_RBK[0], w_BK)[0]
    assert in_sample > 0.2
    assert abs(cross_fitted_oracle(u_RBK, w_BK, replicates)[0]) < 0.05


def test_luck_is_what_one_random_order_in_twenty_exceeds() -> None:
    rng = np.random.default_rng(4)
    u_BK = rng.normal(size=(2, 12))
    exposure = Exposure(w_BK=np.full((2, 12), 1 / 12), pi_B=np.array([0.4, 0.6]), decay_B=np.ones(2))
    luck = luck_area(u_BK, exposure, seed=0)
    uplift = Uplift(judge="FD", u_RBK=np.repeat(u_BK[None], 32, axis=0), usable=True, note="")
    replicates = draw_replicates(50, 29, half_pairs=1, seed=0)
    areas = [area_of(uplift, np.broadcast_to(rng.random(12), (2, 12)), exposure, replicates).area for _ in range(1_000)]
    assert np.mean(np.array(areas) > luck) == pytest.approx(0.05, abs=0.025)


def test_a_cluster_without_exposure_moves_nothing_and_an_empty_bucket_has_no_area() -> None:
    score_BK = np.array([[2.0, 3.0, 1.0]])
    area = area_per_bucket(U_BK, positions(score_BK, W_BK), W_BK)
    w_BK = np.insert(W_BK, 1, 0.0, axis=1)
    more_u_BK, more_score_BK = np.insert(U_BK, 1, 99.0, axis=1), np.insert(score_BK, 1, 2.5, axis=1)
    np.testing.assert_allclose(area_per_bucket(more_u_BK, positions(more_score_BK, w_BK), w_BK), area)
    none_BK = np.zeros_like(W_BK)
    np.testing.assert_array_equal(area_per_bucket(U_BK, positions(score_BK, none_BK), none_BK), [0.0])


def test_level_normalised_is_causalmls_and_depends_on_the_level() -> None:
    """A = .205 at g = Σ w u = .2·3 + .5·1 + .3·2 = 1.7: ½ + .205/1.7; u − 2 has the same area at g = −.3."""
    assert level_normalised(0.205, 1.7) == pytest.approx(0.5 + 0.205 / 1.7)
    assert level_normalised(0.205, -0.3) == pytest.approx(-0.5 + 0.205 / 0.3)
    assert level_normalised(0.205, 0.0) is None
