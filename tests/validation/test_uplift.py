"""The estimators of grouped uplift: against direct implementations, on a confounded world, and by seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from confounded_world import ConfoundedWorld, confounded_world
from scipy.optimize import minimize
from scipy.special import expit

from features.errors import ConfigError
from validation.buckets import Buckets, clusters_to_keep, make_buckets, profile_basis
from validation.falsification import FalsificationConfig
from validation.glm import fit_glm
from validation.judge_arrays import JudgeArrays, exposure_of
from validation.logistic import fit_logistic
from validation.measured import JudgeConfig, Measured, measure
from validation.shards import Replicates, draw_replicates, weighted_grams
from validation.uplift import shrink
from validation.uplift_fd import mediator_contrasts
from validation.uplift_obs import estimate_alpha, fit_bucket, uplift_obs
from validation.uplift_raw import uplift_raw

CONFIG = JudgeConfig(replicates=40, half_pairs=2)


@pytest.fixture(scope="module")
def world() -> ConfoundedWorld:
    return confounded_world(16_000, seed=1)


@pytest.fixture(scope="module")
def measured(world: ConfoundedWorld) -> Measured:
    return measure(world.data, CONFIG)


def cell_truth(world: ConfoundedWorld, measured: Measured) -> np.ndarray:
    buckets, data = measured.buckets, world.data
    touches_BK = data.per_cell(np.ones(len(world.truth_T)), buckets.bucket_J, buckets.count)
    return data.per_cell(world.truth_T, buckets.bucket_J, buckets.count) / touches_BK


def corr(u_BK: np.ndarray, truth_BK: np.ndarray, w_BK: np.ndarray) -> float:
    """Correlation over cells, weighted by exposure, each bucket centred: contrasts are what is identified."""
    u_BK, truth_BK = (v - (v * w_BK).sum(axis=1, keepdims=True) for v in (u_BK, truth_BK))
    return float((w_BK * u_BK * truth_BK).sum() / np.sqrt((w_BK * u_BK**2).sum() * (w_BK * truth_BK**2).sum()))


def one_bucket(data: JudgeArrays) -> Buckets:
    return make_buckets(
        basis_JF=np.ones((len(data.y_J), 1)),
        y_J=data.y_J,
        shard_J=data.shard_J,
        dose_JK=data.dose_JK,
        most=5,
        min_treated=1,
    )


def test_obs_and_fd_find_the_effects_that_raw_rates_invert(world: ConfoundedWorld, measured: Measured) -> None:
    truth_BK, w_BK = cell_truth(world, measured), measured.exposure.w_BK
    found = {uplift.judge: corr(uplift.sample, truth_BK, w_BK) for uplift in measured.judges}
    assert found["raw"] < 0.3
    assert found["IPW"] < 0.3
    assert found["OBS"] > 0.8
    assert found["FD"] > 0.9
    assert measured.obs.uplift.usable


def test_obs_is_no_key_where_past_uploads_do_not_reveal_intent() -> None:
    measured = measure(confounded_world(12_000, seed=2, n_intent=0.0).data, CONFIG)
    assert not measured.obs.uplift.usable
    assert "do not reveal intent" in measured.obs.uplift.note
    assert measured.obs.alpha_R[0] == 0.0


def test_obs_says_what_is_missing(world: ConfoundedWorld) -> None:
    data = world.data
    for broken, reason in (
        (replace(data, post_JK=None), "no touches after the horizon"),
        (replace(data, n_J=np.zeros_like(data.n_J)), "no uploads before the window"),
    ):
        measured = measure(broken, CONFIG)
        assert not measured.obs.uplift.usable
        assert measured.obs.uplift.note.startswith(reason)


def test_fd_needs_responses(world: ConfoundedWorld) -> None:
    measured = measure(replace(world.data, response_TR=None), CONFIG)
    assert measured.fd is None
    assert [uplift.judge for uplift in measured.judges] == ["OBS", "raw", "IPW"]


def test_without_an_effect_fd_sees_nothing() -> None:
    """The oracle's cross-fitted area is a thousandth of what it is in the world with effects."""
    measured = measure(confounded_world(12_000, seed=3, effect=0.0).data, CONFIG)
    assert measured.fd is not None
    z_R = measured.fd.u_RBK / measured.fd.u_RBK[measured.replicates.boot].std(axis=0)
    assert np.abs(z_R[0]).mean() < 2


def test_obs_against_a_direct_implementation(world: ConfoundedWorld) -> None:
    """One bucket: both regressions and their prior by BFGS, a covariance by looping over shards, α by brute force."""
    data = world.data
    basis_JF = profile_basis(data.x_JP)
    buckets = one_bucket(data)
    replicates = draw_replicates(1_000, 20, half_pairs=1, seed=0)
    assert data.post_JK is not None
    design_Jp = np.concatenate([basis_JF, data.dose_JK, data.post_JK[:, :-1]], axis=1)
    F, K, J = basis_JF.shape[1], data.dose_JK.shape[1], len(data.y_J)

    def penalty(b: np.ndarray) -> float:
        """Coefficients of F but the intercept's about 0, of D and of N₂ about their mean, the dropped one's being 0."""
        theta, phi = b[F : F + K], np.append(b[F + K :], 0.0)
        return float((b[1:F] ** 2).sum() + ((theta - theta.mean()) ** 2).sum() + ((phi - phi.mean()) ** 2).sum()) / 2

    def penalty_slope(b: np.ndarray) -> np.ndarray:
        theta, phi = b[F : F + K], np.append(b[F + K :], 0.0)
        return np.concatenate([[0.0], b[1:F], theta - theta.mean(), (phi - phi.mean())[:-1]])

    def fitted(total: Callable[[np.ndarray], np.ndarray], mean: Callable[[np.ndarray], np.ndarray], o_J: np.ndarray):
        found = minimize(
            lambda b: (float((total(design_Jp @ b) - o_J * (design_Jp @ b)).sum()) + penalty(b)) / J,
            np.zeros(design_Jp.shape[1]),
            jac=lambda b: (design_Jp.T @ (mean(design_Jp @ b) - o_J) + penalty_slope(b)) / J,
            method="BFGS",
            options={"gtol": 1e-7, "maxiter": 2_000},
        )
        return found.x, mean(design_Jp @ found.x)

    beta_y_p, p_J = fitted(lambda eta: np.logaddexp(0, eta), expit, data.y_J)
    beta_n_p, mean_J = fitted(np.exp, np.exp, data.n_J)
    influence = []
    for residual_J, variance_J in ((data.y_J - p_J, p_J * (1 - p_J)), (data.n_J - mean_J, mean_J)):
        columns = np.eye(design_Jp.shape[1])
        penalty_pp = np.stack([penalty_slope(column) for column in columns], axis=1)
        inverse_pp = np.linalg.inv(design_Jp.T @ (design_Jp * variance_J[:, None]) + penalty_pp)
        rows = [data.shard_J == s for s in range(1_000)]
        influence.append(np.stack([inverse_pp @ design_Jp[row].T @ residual_J[row] for row in rows])[:, F + K :])

    def objective(alpha: float) -> float:
        contrast_Q = (beta_y_p - alpha * beta_n_p)[F + K :]
        influence_SQ = influence[0] - alpha * influence[1]
        return float(contrast_Q @ np.linalg.solve(influence_SQ.T @ influence_SQ, contrast_Q))

    grid = np.arange(0.0, 4.0, 0.005)
    alpha = grid[np.argmin([objective(value) for value in grid])]
    exposure = exposure_of(data, buckets)
    expected_K = (beta_y_p - alpha * beta_n_p)[F : F + K] * (p_J * (1 - p_J)).mean() * exposure.decay_B[0]

    obs = uplift_obs(data, buckets, exposure, replicates, basis_JF)
    assert obs.alpha_R[0] == pytest.approx(alpha, abs=0.02)
    np.testing.assert_allclose(obs.uplift.sample[0], expected_K, atol=2e-4)


def test_a_replicate_is_nearly_the_estimate_on_repeated_rows(world: ConfoundedWorld) -> None:
    """One step from the sample's fit, against a fit on nine tenths of the users: within a tenth of its own distance."""
    data, basis_JF = world.data, profile_basis(world.data.x_JP)
    weight_S = np.ones(1_000)
    weight_S[::10] = 0.0
    replicates = Replicates(weight_RS=np.stack([np.ones(1_000), weight_S]), half_pairs=0)
    fit = fit_bucket(data, np.ones(len(data.y_J), dtype=bool), replicates, basis_JF)
    kept = data.shard_J % 10 != 0
    alone = fit_bucket(data, kept, draw_replicates(1_000, 2, half_pairs=1, seed=0), basis_JF)
    for step, sample, exact in (
        (fit.theta_RK2[1], fit.theta_RK2[0], alone.theta_RK2[0]),
        (fit.phi_RQ2[1], fit.phi_RQ2[0], alone.phi_RQ2[0]),
    ):
        assert np.linalg.norm(step - exact) < 0.15 * np.linalg.norm(exact - sample)
    assert np.isfinite(estimate_alpha([fit])[0]).all()


@pytest.mark.parametrize("intent", [0.4, 1.2])
def test_intent_that_multiplies_rates_moves_both_coefficients_in_one_proportion(intent: float) -> None:
    """W | counts normal with a linear mean: θ and φ of log E n are its loading, times what counts say of W."""
    rng = np.random.default_rng(4)
    w_J = rng.standard_normal(60_000)
    counts_JK = rng.poisson(np.exp(0.3 * w_J[:, None] * np.array([1.0, -1.0, 0.5])))
    n_J = rng.poisson(0.4 * np.exp(intent * w_J)).astype(np.float64)
    design_Jp = np.concatenate([np.ones((len(w_J), 1)), counts_JK], axis=1)
    slope_K = fit_glm(design_Jp, n_J, np.zeros((4, 4)), "log").beta_p[1:]
    about_w_K = np.linalg.lstsq(design_Jp, w_J, rcond=None)[0][1:]
    np.testing.assert_allclose(slope_K, intent * about_w_K, atol=0.15 * intent * np.abs(about_w_K).max())


def test_a_cluster_without_uploads_stays_finite_and_the_fit_is_logistic_regression() -> None:
    """Nobody who saw cluster 2 uploads: its coefficient is held by the prior; elsewhere the likelihood decides."""
    rng = np.random.default_rng(8)
    seen_JK = (rng.random((20_000, 3)) < [0.5, 0.5, 0.002]).astype(np.float64)
    a_Jp = np.concatenate([np.ones((20_000, 1)), seen_JK], axis=1)
    y_J = (rng.random(20_000) < expit(-2 + 0.5 * a_Jp[:, 1])).astype(np.float64)
    y_J[a_Jp[:, 3] == 1] = 0.0
    penalty_pp = np.diag([0.0, 1.0, 1.0, 1.0])
    fit = fit_glm(a_Jp, y_J, penalty_pp, "logit")
    assert -3 < fit.beta_p[3] < -0.3
    np.testing.assert_allclose(fit.beta_p[:2], [-2.0, 0.5], atol=0.1)
    np.testing.assert_allclose(a_Jp.T @ fit.residual_J, penalty_pp @ fit.beta_p, atol=1e-6)
    nothing = fit_glm(a_Jp, np.zeros(20_000), penalty_pp, "log")
    assert not nothing.beta_p.any()
    assert not nothing.residual_J.any()


def test_within_journey_contrasts_against_demeaned_touches() -> None:
    """The Gram matrix without expansion equals regression of demeaned h on demeaned cluster dummies."""
    world = confounded_world(300, seed=5, clusters=6)
    data, buckets = world.data, one_bucket(world.data)
    assert data.response_TR is not None
    h_T = data.response_TR[:, 0]
    replicates = draw_replicates(1_000, 20, half_pairs=1, seed=0)
    a_RBK, v_BK = mediator_contrasts(data, buckets, h_T, replicates)
    dummy_TK = np.eye(6)[data.column_T]
    demeaned = np.concatenate([dummy_TK, h_T[:, None]], axis=1).reshape(300, 12, 7)
    demeaned = (demeaned - demeaned.mean(axis=1, keepdims=True)).reshape(-1, 7)
    a_K = np.linalg.lstsq(demeaned[:, :6], demeaned[:, 6], rcond=None)[0]
    share_K = dummy_TK.mean(axis=0)
    np.testing.assert_allclose(a_RBK[0, 0], a_K - a_K @ share_K, atol=1e-6)
    assert (v_BK > 0).all()


def test_raw_is_a_difference_of_two_means() -> None:
    world = confounded_world(500, seed=6, clusters=5)
    data = world.data
    uplift = uplift_raw(data, one_bucket(data), draw_replicates(1_000, 20, half_pairs=1, seed=0))
    touched = data.dose_JK[:, 2] > 0
    assert uplift.sample[0, 2] == pytest.approx(data.y_J[touched].mean() - data.y_J[~touched].mean())


def test_bootstrap_repeats_by_seed_and_changes_with_it() -> None:
    data = confounded_world(4_000, seed=7, clusters=8).data
    first, again = (measure(data, replace(CONFIG, seed=1)) for _ in range(2))
    other = measure(data, replace(CONFIG, seed=2))
    for mine, same, different in zip(first.judges, again.judges, other.judges, strict=True):
        np.testing.assert_array_equal(mine.u_RBK, same.u_RBK)
        np.testing.assert_array_equal(mine.sample, different.sample)
        assert not np.array_equal(mine.u_RBK, different.u_RBK)


def test_bootstrap_spread_is_the_binomial_one() -> None:
    """The standard error of a difference of two rates, against its formula."""
    base = confounded_world(4_000, seed=11, clusters=40, profiles=0).data
    replicates = draw_replicates(1_000, 200, half_pairs=1, seed=0)
    uplift = uplift_raw(base, one_bucket(base), replicates)
    rate = base.y_J.mean()
    touched = (base.dose_JK[:, 0] > 0).mean()
    binomial_se = np.sqrt(rate * (1 - rate) * (1 / touched + 1 / (1 - touched)) / len(base.y_J))
    assert uplift.u_RBK[replicates.boot, 0, 0].std() == pytest.approx(binomial_se, rel=0.25)


def test_halves_are_complementary() -> None:
    replicates = draw_replicates(1_000, 20, half_pairs=3, seed=0)
    first, second = replicates.weight_RS[replicates.first], replicates.weight_RS[replicates.second]
    np.testing.assert_array_equal(first + second, 2.0)
    np.testing.assert_array_equal(replicates.weight_RS[replicates.boot].sum(axis=1), 1_000)


def test_weighted_grams_weigh_rows() -> None:
    rng = np.random.default_rng(8)
    a_Jp, shard_J = rng.normal(size=(500, 4)), rng.integers(0, 100, 500)
    replicates = draw_replicates(100, 20, half_pairs=1, seed=0)
    weight_J = replicates.weight_RS[-1][shard_J]
    np.testing.assert_allclose(weighted_grams(a_Jp, shard_J, replicates)[-1], (a_Jp * weight_J[:, None]).T @ a_Jp)


def test_shrinkage_by_hand() -> None:
    """One cluster, r = (0, 4), v = (1, 1): mean 2, Q = 8, τ² = (8 − 1)/1 = 7, so each moves to 2 ± 2·7/8."""
    np.testing.assert_allclose(shrink(np.array([[[0.0], [4.0]]]), np.ones((2, 1))), [[[0.25], [3.75]]])
    np.testing.assert_allclose(shrink(np.array([[[1.9], [2.1]]]), np.ones((2, 1))), [[[2.0], [2.0]]])


def test_buckets_become_fewer_until_cells_are_large_enough(world: ConfoundedWorld) -> None:
    data, basis_JF = world.data, profile_basis(world.data.x_JP)
    counts = {}
    for min_treated in (200, 1_500, 10**6):
        buckets = make_buckets(
            basis_JF=basis_JF,
            y_J=data.y_J,
            shard_J=data.shard_J,
            dose_JK=data.dose_JK,
            most=5,
            min_treated=min_treated,
        )
        counts[min_treated] = buckets.count
        assert (buckets.median_treated >= min_treated) or buckets.count == 1
    assert counts[200] == 5
    assert counts[10**6] == 1
    means = [data.y_J[buckets.bucket_J == b].mean() for b in range(buckets.count)]
    assert means == sorted(means)


def test_no_profiles_means_one_bucket_and_says_so() -> None:
    measured = measure(confounded_world(3_000, seed=9, clusters=5, profiles=0).data, CONFIG)
    assert (measured.buckets.count, measured.buckets.why) == (1, "one bucket: there are no profiles")


@pytest.mark.parametrize(
    ("treated", "most", "kept"),
    [
        ([3_000] * 12, 64, 12),
        ([3_000] * 12 + [400] * 5, 64, 12),
        ([3_000] * 12 + [600] * 5, 64, 17),
        ([3_000] * 12 + [600] * 20, 64, 22),
        ([3_000] * 12, 11, 11),
        ([100] * 12, 64, 12),
    ],
    ids=[
        "all large",
        "rare go",
        "median still large",
        "rarest go until it is",
        "at most",
        "hopeless: shown as they are",
    ],
)
def test_rare_clusters_merge(treated: list[int], most: int, kept: int) -> None:
    assert len(clusters_to_keep(np.array(treated), min_treated=2_500, most=most)) == kept


def test_the_merged_column_counts_in_the_median() -> None:
    """Sixteen clusters of 3,000 and twenty of 2,000: RARE itself is a small one, and must not undo the merge."""
    treated_K = np.array([3_000] * 16 + [2_000] * 20)
    kept = clusters_to_keep(treated_K, min_treated=2_500, most=64)
    rare = treated_K[np.setdiff1d(np.arange(36), kept)].max()
    assert np.median([*treated_K[kept], rare]) >= 2_500


def test_logistic_regression_recovers_its_coefficients() -> None:
    rng = np.random.default_rng(10)
    a_Jp = np.concatenate([np.ones((40_000, 1)), rng.normal(size=(40_000, 2))], axis=1)
    y_J = (rng.random(40_000) < expit(a_Jp @ [-1.0, 0.5, -0.3])).astype(float)
    np.testing.assert_allclose(fit_logistic(a_Jp, y_J), [-1.0, 0.5, -0.3], atol=0.05)


def test_config_refuses_what_cannot_be() -> None:
    with pytest.raises(ConfigError, match="positive"):
        FalsificationConfig(min_treated=0)
    with pytest.raises(ConfigError, match="replicates"):
        JudgeConfig(replicates=1)
