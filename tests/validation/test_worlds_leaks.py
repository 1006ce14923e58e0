"""The leaky worlds leak as strongly as they say, and are the logit world without their leak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from validation.worlds import WORLDS, World
from validation.worlds.base import Bools, Constants, Outcome, Responses, Sessions
from validation.worlds.constants import draw_constants
from validation.worlds.leaky import LeakyProxyWorld, LeakyResponseWorld
from validation.worlds.outcome import draw_outcome, draw_responses
from validation.worlds.sessions import draw_sessions

USERS = 3_000


def drawn(world: World) -> tuple[Constants, Sessions, Outcome, Responses, Bools]:
    """The last is y_US."""
    constants = draw_constants(world, 5, None)
    rng = np.random.default_rng(2)
    sessions = draw_sessions(world, constants, USERS, rng)
    sessions, upload_US = world.decide_uploads(constants, sessions, rng)
    outcome = draw_outcome(world, constants, sessions, upload_US, rng)
    y_US = np.zeros(sessions.base_US.shape, bool)
    y_US[outcome.row_N, outcome.session_N] = True
    return constants, sessions, outcome, draw_responses(world, constants, sessions, outcome, rng), y_US


def test_an_upload_switches_on_the_taps_before_it() -> None:
    """Chance at the j-th touch from the end: leak · exp(−j / reach), on top of the taps that were there anyway."""
    *_, responses, y_US = drawn(LeakyResponseWorld(leak=0.9, leak_reach=1.5))
    *_, honest, _ = drawn(LeakyResponseWorld(leak=0.0))
    tapped, before = responses["template_tapped"][y_US].mean(0), honest["template_tapped"][y_US].mean(0)
    chance = 0.9 * np.exp(-np.arange(16)[::-1] / 1.5)
    expected = 1 - (1 - before) * (1 - chance)
    np.testing.assert_allclose(tapped, expected, atol=4 * np.sqrt(0.25 / y_US.sum()))
    np.testing.assert_array_equal(responses["template_tapped"][~y_US], honest["template_tapped"][~y_US])
    for name in ("watch_ratio", "liked"):
        np.testing.assert_array_equal(responses[name], honest[name])


def test_the_leak_gives_uploads_away_and_its_absence_does_not() -> None:
    for leak, low, high in ((1.0, 0.95, 1.0), (0.0, 0.5, 0.7)):
        *_, responses, y_US = drawn(replace(WORLDS["leaky-response"], leak=leak))  # type: ignore[arg-type]
        last = responses["template_tapped"][:, :, -1]
        auc = 0.5 + (last[y_US].mean() - last[~y_US].mean()) / 2
        assert low <= auc <= high


def test_the_proxy_marks_what_matches_the_upload() -> None:
    constants, s, outcome, responses, y_US = drawn(WORLDS["leaky-proxy"])
    shared = responses["shared"]
    assert not shared[~y_US].any()
    assert shared[y_US].any(-1).mean() > 0.99
    same_NL = s.cluster_USL[y_US] == constants.cluster_I[outcome.item_N][:, None]
    assert shared[y_US][same_NL].mean() > 0.9
    assert shared[y_US][~same_NL].mean() < 0.15


@pytest.mark.parametrize("family", [LeakyResponseWorld, LeakyProxyWorld])
def test_without_the_leak_it_is_the_logit_world(family: type[LeakyResponseWorld | LeakyProxyWorld]) -> None:
    *_, leaky, y_US = drawn(family(leak=0.0))
    *_, logit, logit_y_US = drawn(WORLDS["logit"])
    np.testing.assert_array_equal(y_US, logit_y_US)
    for name, value in logit.items():
        np.testing.assert_array_equal(leaky[name], value)
    assert "shared" not in leaky or not leaky["shared"].any()
