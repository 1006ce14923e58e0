"""The worlds in which what the judges rest on fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from validation.worlds import JUDGE_WORLDS, WORLDS
from validation.worlds.base import Bools, Constants, Sessions, World
from validation.worlds.constants import draw_constants
from validation.worlds.feedback import FeedbackWorld
from validation.worlds.sessions import draw_sessions
from validation.worlds.uploads import _draw_background


def decided(world: World, users: int = 4_000) -> tuple[Constants, Sessions, Bools]:
    constants, rng = draw_constants(world, 5, None), np.random.default_rng(2)
    return constants, *world.decide_uploads(constants, draw_sessions(world, constants, users, rng), rng)


def tilt(c: Constants, s: Sessions, upload_US: Bools) -> tuple[float, float]:
    """How much more of ζ's clusters the users of the first session's uploads see, before and after them."""
    seen_US = c.zeta_K[s.cluster_USL].mean(-1)
    uploaded_U = upload_US[:, 0]
    gap_S = seen_US[uploaded_U].mean(0) - seen_US[~uploaded_U].mean(0)
    return float(gap_S[0]), float(gap_S[1:].mean())


def test_an_upload_turns_what_is_shown_next_and_nothing_before() -> None:
    world = replace(JUDGE_WORLDS["feedback"], confounding=0.0)
    before, after = tilt(*decided(world))
    assert abs(before) < 0.03
    assert after > 0.1
    randomised = tilt(*decided(replace(world, randomised_share=1.0)))
    assert abs(randomised[1]) < 0.03


def test_without_feedback_it_is_the_logit_world() -> None:
    _, s, upload_US = decided(FeedbackWorld(feedback=0.0))
    _, logit, logit_upload_US = decided(WORLDS["logit"])
    assert (upload_US[:, 0] == logit_upload_US[:, 0]).all()
    assert (s.item_USL[:, 0] == logit.item_USL[:, 0]).all()
    assert upload_US.mean() == pytest.approx(logit_upload_US.mean(), abs=0.01)


def test_what_happens_is_what_was_drawn_for_what_was_shown() -> None:
    """Effects and mediators belong to the items that are shown after all."""
    c, s, _ = decided(JUDGE_WORLDS["direct-path-and-feedback"], 500)
    assert (s.cluster_USL == c.cluster_I[s.item_USL]).all()
    np.testing.assert_allclose(s.direct_USL, s.decay_USL * c.psi_K[s.cluster_USL])
    np.testing.assert_allclose(s.mediator_USL.mean(), s.mean_USL.mean(), atol=0.01)
    assert np.abs(s.direct_USL).max() > 0


def test_a_noisy_control_says_less_of_intent() -> None:
    def told(world: World) -> float:
        c, s, _ = decided(world)
        end_US = np.full(s.base_US.shape, -(10**15))
        row_B, _ = _draw_background(world, c, s, end_US, np.random.default_rng(3))
        return float(np.corrcoef(np.log1p(np.bincount(row_B, minlength=len(s.w_U))), s.w_U)[0, 1])

    clean, noisy = told(WORLDS["logit"]), told(JUDGE_WORLDS["noisy-control"])
    assert 0.15 < noisy < clean - 0.1
