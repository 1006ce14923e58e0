"""The rules of a journey, as arithmetic on arrays sorted by (user, time, id).

x(r, t) is the place of user r's moment t on an axis (features/journeys_axis.py) where users lie further apart than any
gap inside a session, and p(u) the user's last touch before upload u; an upload at the moment of a touch lies before it.

    sessions        end at e where x_{e+1} − x_e > inactivity, and at every p(u); t = ts_e
    kept            t + horizon ≤ the end of the logs; for the judge's users, t + horizon + post
    range           the last L touches of those with x ≥ x(r, t − lookback), up to e
    label           the first u with p(u) = e, if u ≤ t + horizon: no later observation precedes it
    control         n = |uploads in [t − c₀, t − c₁)|, and the whole days of that window that the logs cover
    post exposures  touches in (t + horizon, t + horizon + post], a number a cluster

Shapes: N touches, M uploads, U users, P touches that an upload follows, J observations, E touches in post windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.journeys_axis import Axis, Events, Ints, Timeline, chunks, user_bounds

DAY_US = 86_400_000_000
SPLITS = ("fit", "selection", "judge")
JUDGE = SPLITS.index("judge")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What cuts journeys, in µs: `JourneyConfig` says what each means."""

    inactivity: int
    lookback: int
    max_touches: int
    horizon: int
    control_start: int
    control_end: int
    post: int
    log_start: int
    """First moment of touches and uploads."""
    log_end: int
    """Last moment of both."""

    @property
    def axis(self) -> Axis:
        return Axis(start=self.log_start, end=self.log_end, apart=self.inactivity)


@dataclass(frozen=True, kw_only=True)
class Observations:
    """The J observations that are kept, in order of (user, t_obs).

    rank_J: the user's place among the users at hand. first_J, last_J: the range's touches. split_J: a place in SPLITS.
    upload_J: the upload that is the label, −1 for none. observed, uncensored: number of sessions, and of those whose
    horizon the logs hold.
    """

    rank_J: Ints
    t_obs_J: Ints
    first_J: Ints
    last_J: Ints
    upload_J: Ints
    n_control_J: Ints
    n_days_covered_J: Ints
    split_J: Ints
    observed: int
    uncensored: int


def on_axis(touches: Events, uploads: Events, axis: Axis) -> tuple[Timeline, Timeline]:
    """Whole users' touches, and these users' uploads."""
    user_U = touches.user_N[user_bounds(touches.user_N)[:-1]]
    known_M = np.isin(uploads.user_N, user_U)
    return Timeline.of(axis, user_U, touches), Timeline.of(axis, user_U, uploads[known_M])


def observe(touches: Timeline, uploads: Timeline, rules: Rules, split: Callable[[Ints], Ints]) -> Observations:
    """The observations of these users. split: users -> their places in SPLITS. [U] -> [U]."""
    followed_P, upload_P = followed(touches, uploads)
    session_J = session_ends(touches, followed_P, rules.inactivity)
    uncensored_J = session_J[touches.ts_N[session_J] + rules.horizon <= rules.log_end]
    split_J = split(touches.user_U)[touches.rank_N[uncensored_J]]
    has_post_J = touches.ts_N[uncensored_J] + rules.horizon + rules.post <= rules.log_end
    kept_J = (split_J != JUDGE) | has_post_J
    last_J = uncensored_J[kept_J]
    rank_J, t_obs_J = touches.rank_N[last_J], touches.ts_N[last_J]
    return Observations(
        rank_J=rank_J,
        t_obs_J=t_obs_J,
        first_J=np.maximum(touches.before(rank_J, t_obs_J - rules.lookback), last_J - rules.max_touches + 1),
        last_J=last_J,
        upload_J=labels(last_J, t_obs_J + rules.horizon, followed_P, upload_P, uploads.ts_N),
        n_control_J=controls(uploads, rank_J, t_obs_J, rules),
        n_days_covered_J=days_covered(t_obs_J, rules),
        split_J=split_J[kept_J],
        observed=len(session_J),
        uncensored=len(uncensored_J),
    )


def followed(touches: Timeline, uploads: Timeline) -> tuple[Ints, Ints]:
    """The touches p(u), and the first upload u of each. [P], [P]."""
    before_M = np.searchsorted(touches.x_N, uploads.x_N) - 1
    own = np.flatnonzero((before_M >= 0) & (touches.rank_N[before_M] == uploads.rank_N))
    touch_P, first = np.unique(before_M[own], return_index=True)
    return touch_P, own[first]


def session_ends(touches: Timeline, followed_P: Ints, inactivity: int) -> Ints:
    """The last touches of the sessions. [J]."""
    is_end_N = np.append(np.diff(touches.x_N) > inactivity, True)
    is_end_N[followed_P] = True
    return np.flatnonzero(is_end_N)


def labels(last_J: Ints, until_J: Ints, followed_P: Ints, upload_P: Ints, upload_ts_M: Ints) -> Ints:
    """The upload that follows each observation's last touch up to the moment `until`; −1 for none. [J]."""
    kept_P = np.isin(followed_P, last_J, assume_unique=True)
    journey_P, upload_P = np.searchsorted(last_J, followed_P[kept_P]), upload_P[kept_P]
    in_time_P = upload_ts_M[upload_P] <= until_J[journey_P]
    upload_J = np.full(len(last_J), -1)
    upload_J[journey_P[in_time_P]] = upload_P[in_time_P]
    return upload_J


def controls(uploads: Timeline, rank_J: Ints, t_obs_J: Ints, rules: Rules) -> Ints:
    """n, the uploads in the control window. [J]."""
    earlier_J = uploads.before(rank_J, t_obs_J - rules.control_start)
    return uploads.before(rank_J, t_obs_J - rules.control_end) - earlier_J


def days_covered(t_obs_J: Ints, rules: Rules) -> Ints:
    """Whole days of the control window that the logs cover. [J]."""
    since_J = np.maximum(t_obs_J - rules.control_start, rules.log_start)
    return np.maximum((t_obs_J - rules.control_end - since_J) // DAY_US, 0)


def post_exposures(
    touches: Timeline, rank_J: Ints, t_obs_J: Ints, rules: Rules, pairs: int
) -> Iterator[tuple[Ints, NDArray[np.int32], Ints]]:
    """Observation, cluster and number of touches in the post window, in this order; about `pairs` of E at a time."""
    begin_J = touches.until(rank_J, t_obs_J + rules.horizon)
    end_J = touches.until(rank_J, t_obs_J + rules.horizon + rules.post)
    bounds = np.append(0, np.cumsum(end_J - begin_J))
    for first, last in chunks(bounds, pairs):
        journey_E = np.repeat(np.arange(first, last), np.diff(bounds[first : last + 1]))
        touch_E = np.arange(bounds[first], bounds[last]) + (begin_J - bounds[:-1])[journey_E]
        # One integer to sort: the observation above, the cluster's 32 bits, sign turned, below.
        cluster_E = touches.value_N[touch_E].astype(np.int64) + 2**31
        pair_K, count_K = np.unique((journey_E << 32) + cluster_E, return_counts=True)
        yield pair_K >> 32, ((pair_K & 0xFFFFFFFF) - 2**31).astype(np.int32), count_K
