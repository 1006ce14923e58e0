"""The truth of every family against brute force: the law written once more from its equation, and Y drawn many times.

With common random numbers the difference of Y with and without a touch is −1, 0 or 1; its mean is Δ, its standard
error follows from the draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from features.duck import session
from validation.worlds import JUDGE_WORLDS, REPORT_WORLDS, WORLDS, World, simulate
from validation.worlds.base import Floats, Sessions, Truth
from validation.worlds.competing_risk import CompetingRiskWorld
from validation.worlds.constants import draw_constants
from validation.worlds.quadrature import SigmoidTable, mean_sigmoid
from validation.worlds.saturating import SaturatingWorld
from validation.worlds.sessions import draw_sessions

DRAWS, BLOCKS = 20_000, 10
FAMILIES = ["logit", "saturating", "competing-risk", "direct-path", "variable-length", "heavy-tailed", "drift", "dense"]
Law = Callable[[Floats, Floats, Floats, Floats], Floats]


def law_of(world: World, intercept: float) -> Law:
    """(base_J1, w_J1, decayed mediator_JL, direct_JL) -> P(Y=1)_J, from the equations in the modules' heads."""
    rho, gamma = world.confounding, world.effect_scale

    def law(base: Floats, w: Floats, content: Floats, direct: Floats) -> Floats:
        intent = intercept + base + rho * w
        total = content.sum(1)
        if isinstance(world, SaturatingWorld):
            return expit(intent + gamma * world.saturation * np.tanh(total / world.saturation))
        if isinstance(world, CompetingRiskWorld):
            return 1 - np.exp(-np.exp(intent) - gamma * total * np.exp(world.modification * w))
        return expit(intent + gamma * total + direct.sum(1))

    return law


def drawn_noise(world: World, mean_L: Floats, rng: np.random.Generator) -> Floats:
    """mediator [DRAWS, L]."""
    shape = (DRAWS, len(mean_L))
    if isinstance(world, CompetingRiskWorld):
        return rng.gamma(world.mediator_shape, 1.0, shape) * mean_L / world.mediator_shape
    return rng.normal(mean_L, world.mediator_noise, shape)


def brute_force(
    world: World, intercept: float, s: Sessions, user: int, number: int, touch: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """(means, standard errors) of Y under do T, of Y under do nothing, and of what removing the touch changes."""
    law, draws = law_of(world, intercept), []
    decay_L, direct_L = s.decay_USL[user, number], s.direct_USL[user, number]
    keep_L = np.arange(world.touches) != touch
    for _ in range(BLOCKS):
        w, luck = rng.standard_normal(DRAWS), rng.random(DRAWS)
        content = decay_L * drawn_noise(world, s.mean_USL[user, number], rng)
        base, direct = np.full(DRAWS, s.base_US[user, number]), np.broadcast_to(direct_L, content.shape)
        y, y_without, y_none = (
            luck < law(base, w, content * kept, direct * kept) for kept in (np.ones_like(keep_L), keep_L, 0 * keep_L)
        )
        draws.append(np.stack([y, y_none, y.astype(float) - y_without]))
    sample = np.concatenate(draws, 1)
    return sample.mean(1), sample.std(1) / np.sqrt(sample.shape[1])


@pytest.mark.parametrize("worlds", [WORLDS, REPORT_WORLDS], ids=["selection", "report"])
@pytest.mark.parametrize("name", FAMILIES)
def test_effects_are_what_brute_force_finds(name: str, worlds: dict[str, World]) -> None:
    world = worlds[name]
    constants = draw_constants(world, 5, None)
    rng = np.random.default_rng(11)
    s = draw_sessions(world, constants, 200, rng)
    truth = world.truth(constants.intercept, s)
    delta_USL = truth.p_do_US[..., None] - truth.p_without_USL
    largest = np.unravel_index(np.abs(delta_USL).argmax(), delta_USL.shape)
    touch = int(np.abs(delta_USL[3, -1]).argmax())
    for user, number, place in (largest, (3, world.sessions - 1, touch)):
        expected = [truth.p_do_US[user, number], truth.p_none_US[user, number], delta_USL[user, number, place]]
        mean, stderr = brute_force(world, constants.intercept, s, int(user), int(number), int(place), rng)
        assert np.all(np.abs(mean - expected) < 4 * stderr), (mean, expected, stderr)
    assert abs(delta_USL[largest]) > 20 * stderr[2], "too small an effect to be tested"


@pytest.mark.parametrize("name", [*WORLDS, *JUDGE_WORLDS])
def test_a_randomised_copy_uploads_as_often_as_the_truth_says(name: str, tmp_path: Path) -> None:
    """Where exposure owes nothing to W, uploads of the logs average to P(Y=1|do T, x): overall and in its top fifth."""
    simulate(replace((WORLDS | JUDGE_WORLDS)[name], randomised_share=1.0), 3_000, 5, tmp_path)
    with session(threads=1) as connection:
        found = connection.execute(
            "SELECT p_do, (SELECT count(*) FROM read_parquet($uploads) u WHERE u.user_id = j.user_id "
            "AND u.ts > j.t_obs AND u.ts <= j.t_obs + INTERVAL 24 HOUR) AS uploads FROM read_parquet($journeys) j",
            {
                "uploads": str(tmp_path / "uploads/*.parquet"),
                "journeys": str(tmp_path / "truth/journeys/*.parquet"),
            },
        ).fetchnumpy()
    p_J, y_J = found["p_do"], found["uploads"]
    assert set(np.unique(y_J)) == {0, 1}
    for rows in (slice(None), p_J >= np.quantile(p_J, 0.8)):
        p, y = p_J[rows], y_J[rows]
        # sessions of one user share W: at most four times the variance of independent ones
        assert abs(y.mean() - p.mean()) < 4 * 2 * np.sqrt((p * (1 - p)).mean() / len(p))


def test_without_effect_nothing_changes() -> None:
    truth = some_truth(WORLDS["no-effect"])
    np.testing.assert_allclose(truth.p_without_USL, np.broadcast_to(truth.p_do_US[..., None], (50, 4, 16)), atol=1e-12)
    np.testing.assert_allclose(truth.p_none_US, truth.p_do_US, atol=1e-12)


def test_the_direct_path_counts_in_the_truth() -> None:
    world = replace(WORLDS["direct-path"], effect_scale=0.0)
    truth = some_truth(world)
    delta_USL = truth.p_do_US[..., None] - truth.p_without_USL
    assert delta_USL.min() < -0.001
    assert delta_USL.max() > 0.001


def test_a_saturated_journey_loses_less_by_one_touch() -> None:
    """A link that hardly bends is the logit world; one that bends takes from the most inspired journeys."""
    straight, bent = some_truth(SaturatingWorld(saturation=300.0)), some_truth(SaturatingWorld(saturation=1.0))
    logit = some_truth(WORLDS["logit"])
    np.testing.assert_allclose(straight.p_do_US, logit.p_do_US, atol=1e-3)
    np.testing.assert_allclose(straight.p_without_USL, logit.p_without_USL, atol=1e-3)
    assert (bent.p_do_US - bent.p_none_US).max() < 0.5 * (logit.p_do_US - logit.p_none_US).max()


def some_truth(world: World) -> Truth:
    """50 users of seed 5; the intercept is fixed, so that worlds compare."""
    constants = draw_constants(world, 5, None)
    return world.truth(-4.0, draw_sessions(world, constants, 50, np.random.default_rng(2)))


@pytest.mark.parametrize("sd", [0.0, 0.5, 1.5, 4.0])
def test_a_mean_of_sigmoids_is_the_integral(sd: float) -> None:
    """Against a Riemann sum of 200,001 terms on ±10."""
    z = np.linspace(-10, 10, 200_001)
    weight = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    logit = np.array([-6.0, -1.3, 0.0, 2.2])
    expected = [weight @ expit(a + sd * z) for a in logit]
    np.testing.assert_allclose(mean_sigmoid(logit, sd**2), expected, atol=1e-6)
    np.testing.assert_allclose(SigmoidTable(-20.0, 20.0, sd)(logit), expected, atol=1e-6)
