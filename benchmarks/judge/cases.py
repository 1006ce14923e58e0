"""Data sets on which the falsification battery must speak, or keep silent: a power and a false-alarm rate per test.

A test flags where its verdict is 'fail' or 'warn'. Each is held against one case that breaks what it tests and one that
does not. Cases are as small as lets the tests see: the judges' agreement blocks from 40,000 journeys on, for example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from features.journeys import JourneyConfig
from validation.worlds import LogitWorld, World
from validation.worlds.base import Constants, Outcome, Responses, Sessions

BASE = "logit"
"""The world that holds what all tests assume."""
AUDITS = {"worse": "randomised audit of a worse candidate", "better": "randomised audit of a better candidate"}


@dataclass(frozen=True, kw_only=True)
class UnevenWorld(LogitWorld):
    """People who mean to create watch every other cluster longer, and the clusters between for less: ± uneven · W."""

    uneven: float = 0.3
    responses: tuple[str, ...] = ("watch_ratio",)

    def leak_responses(
        self, responses: Responses, sessions: Sessions, outcome: Outcome, constants: Constants, rng: np.random.Generator
    ) -> Responses:
        del outcome, constants, rng
        loading_USL = self.uneven * np.where(sessions.cluster_USL % 2 == 0, 1.0, -1.0)
        shift_USL = 1.5 * loading_USL * sessions.w_U[:, None, None]  # as outcome.py's ω W enters watch_ratio
        watched_USL = responses["watch_ratio"].astype(np.float64).clip(1e-6, 1 - 1e-6)
        return responses | {"watch_ratio": expit(logit(watched_USL) + shift_USL).astype(np.float32)}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A world of `users`, and whether the candidate is a broken one (candidate.py)."""

    world: World
    users: int
    broken: bool = False
    lookback_days: int = JourneyConfig.lookback_days
    """Sessions lie a week apart: 20 days make journeys of several."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A test, the case in which it must flag and that in which it must not."""

    test: str
    flags: str
    quiet: str = BASE
    quiet_test: str | None = None
    """The finding's name there, where it has another."""


def cases(worlds: Mapping[str, World]) -> dict[str, Case]:
    """Case -> data; `worlds` is a set of named worlds, from which the other cases depart."""
    base = worlds[BASE]
    no_effect = worlds["no-effect"]
    assert isinstance(base, LogitWorld)
    assert isinstance(no_effect, LogitWorld)
    family = {name: value for name, value in vars(base).items() if name != "responses"}
    small = 8_000
    return {
        **{name: Case(world=worlds[name], users=22_000) for name in (BASE, "direct-path", "feedback")},
        **{
            name: Case(world=worlds[name], users=small)
            for name in ("leaky-response", "leaky-proxy", "contaminated", "no-effect")
        },
        "intent-alone": Case(
            world=replace(no_effect, contamination=0.2, affinity=0.0, touches=20), users=small, lookback_days=20
        ),
        "unevenly-contaminated": Case(world=UnevenWorld(**family), users=small),
        "irrelevant-control": Case(world=replace(base, background_confounding=0.0), users=small),
        "few-users": Case(world=base, users=2_500),
        "broken-candidate": Case(world=base, users=small, broken=True),
        "randomised": Case(world=replace(base, randomised_share=0.2), users=small),
    }


def elsewhere(world: World) -> World:
    """The platform on whose logs the broken candidate's champion was fitted: other users, content and responses."""
    return replace(world, contamination=1.5, profile_share=0.6, authors=100)


ELSEWHERE_USERS, ELSEWHERE_SEED = 2_000, 1_000_000
"""The seed is added: another catalogue."""

EXPECTED = (
    Expected(test="cell size", flags="few-users"),
    Expected(test="leakage, template_tapped", flags="leaky-response"),
    Expected(test="leakage, shared", flags="leaky-proxy", quiet_test="leakage, liked"),
    Expected(test="leakage, the model's index", flags="leaky-response"),
    Expected(test="mediator relevance, pooled", flags="no-effect"),
    Expected(test="mediator relevance, within journeys", flags="intent-alone"),
    Expected(test="post-window exposures", flags="feedback"),
    Expected(test="direct path, excess SD", flags="direct-path"),
    Expected(test="direct path, correlation", flags="direct-path"),
    Expected(test=AUDITS["worse"], flags="randomised", quiet="randomised", quiet_test=AUDITS["better"]),
    Expected(test="positivity", flags="broken-candidate"),
    Expected(test="contaminated responses", flags="contaminated"),
    Expected(test="contaminated responses, by cluster", flags="unevenly-contaminated"),
    Expected(test="placebo, later touches", flags="contaminated"),
    Expected(test="placebo, shuffled users", flags="no-effect"),
    Expected(test="negative control relevance", flags="irrelevant-control"),
    Expected(test="calibration, slope", flags="broken-candidate"),
    Expected(test="calibration, level", flags="broken-candidate"),
    Expected(test="drift, clusters", flags="broken-candidate"),
    Expected(test="drift, responses", flags="broken-candidate"),
    Expected(test="drift, profile", flags="broken-candidate"),
)
