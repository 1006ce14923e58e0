"""Draws users and what they consume: x, W -> exposure -> mediator.

Items follow a softmax of popularity and the user's taste for the item's cluster: the cluster is drawn first, then
the item within it.
"""

from __future__ import annotations

import numpy as np

from validation.worlds.base import Bools, Constants, Floats, Ints, Sessions, World
from validation.worlds.catalogue import Catalogue

LONGEST_GAP_MINUTES = 29.0


def draw_sessions(
    world: World, c: Constants, users: int, rng: np.random.Generator, catalogue: Catalogue | None = None
) -> Sessions:
    """`users` fresh users with all their sessions; profiles are rows of the catalogue where there is one."""
    profile_row_U = np.zeros(users, np.int64)
    if catalogue:
        profile_row_U = rng.integers(0, len(catalogue.x_RP), users)
        x_UP = catalogue.x_RP[profile_row_U]
    else:
        x_UP = rng.standard_normal((users, world.profile_dim))
    w_U = rng.standard_normal(users)
    item_USL, randomised_USL = _draw_exposures(world, c, x_UP, w_U, rng)
    cluster_USL = c.cluster_I[item_USL]
    gap_hours_USL = _draw_gap_hours(world, users, rng)
    mean_USL = mediator_mean(c, x_UP, cluster_USL)
    mediator_USL = world.draw_mediator(mean_USL, rng)
    present_USL = _draw_present(world, users, rng)
    decay_USL = np.where(present_USL, np.exp(-gap_hours_USL / world.decay_hours), 0.0)
    return Sessions(
        profile_row_U=profile_row_U,
        x_UP=x_UP,
        w_U=w_U,
        item_USL=item_USL,
        cluster_USL=cluster_USL,
        present_USL=present_USL,
        randomised_USL=randomised_USL,
        gap_hours_USL=gap_hours_USL,
        decay_USL=decay_USL,
        base_US=(x_UP @ c.delta_P)[:, None] + c.shift_S,
        direct_USL=decay_USL * c.psi_K[cluster_USL],
        mean_USL=mean_USL,
        mediator_USL=mediator_USL,
    )


def mediator_mean(c: Constants, x_UP: Floats, cluster_USL: Ints) -> Floats:
    """β_k exp(x·G_k) of every touch. [U, S, L]."""
    mean_UK = c.beta_K * np.exp(x_UP @ c.G_KP.T)
    mean_UN = np.take_along_axis(mean_UK, cluster_USL.reshape(len(x_UP), -1), 1)
    return np.asarray(mean_UN.reshape(cluster_USL.shape))


def _draw_exposures(
    world: World, c: Constants, x_UP: Floats, w_U: Floats, rng: np.random.Generator
) -> tuple[Ints, Bools]:
    """item_USL, and which of them were drawn uniformly instead."""
    shape = (len(w_U), world.sessions, world.touches)
    cluster_draw_USL, item_draw_USL = rng.random(shape), rng.random(shape)
    randomised_USL = rng.random(shape) < world.randomised_share
    item_USL = rng.integers(0, world.items, shape)
    for s in range(world.sessions):
        taste_UK = taste(world, c, s, x_UP, w_U)
        chosen_UL = choose(c.cluster_I, c.popularity_SI[s], taste_UK, cluster_draw_USL[:, s], item_draw_USL[:, s])
        item_USL[:, s] = np.where(randomised_USL[:, s], item_USL[:, s], chosen_UL)
    return item_USL, randomised_USL


def taste(world: World, c: Constants, session: int, x_UP: Floats, w_U: Floats) -> Floats:
    """taste_UK: what profile and hidden intent make of each cluster in this session."""
    return np.asarray(x_UP @ c.A_KP.T + world.affinity * w_U[:, None] * c.kappa_SK[session])


def choose(cluster_I: Ints, popularity_I: Floats, taste_UK: Floats, cluster_UL: Floats, item_UL: Floats) -> Ints:
    """Invert the two cumulative distributions at the uniform numbers `cluster_UL` and `item_UL`."""
    clusters = taste_UK.shape[1]
    mass_I = np.exp(popularity_I)
    mass_K = np.bincount(cluster_I, mass_I, clusters)
    share_UK = mass_K * np.exp(taste_UK)
    cumulative_UK = np.cumsum(share_UK / share_UK.sum(1, keepdims=True), 1)
    cluster_UL = (cumulative_UK[:, None, :-1] <= cluster_UL[:, :, None]).sum(-1)
    order = np.argsort(cluster_I, kind="stable")
    within_I = np.cumsum(mass_I[order])
    last_K = np.cumsum(np.bincount(cluster_I, minlength=clusters)) - 1
    first_K = np.concatenate([[0], last_K[:-1] + 1])
    start_K = np.concatenate([[0.0], within_I])[first_K]
    place_UL = np.searchsorted(within_I, start_K[cluster_UL] + item_UL * mass_K[cluster_UL], side="right")
    return np.asarray(order[np.clip(place_UL, first_K[cluster_UL], last_K[cluster_UL])])


def _draw_gap_hours(world: World, users: int, rng: np.random.Generator) -> Floats:
    """Hours from each touch to the session's last one."""
    step_USL = rng.exponential(world.mean_gap_minutes, (users, world.sessions, world.touches))
    step_USL = np.minimum(step_USL, LONGEST_GAP_MINUTES)
    step_USL[:, :, -1] = 0.0
    return np.flip(np.cumsum(np.flip(step_USL, -1), -1), -1) / 60


def _draw_present(world: World, users: int, rng: np.random.Generator) -> Bools:
    """The last `length` places of every session."""
    if world.shortest_session is None:
        return np.ones((users, world.sessions, world.touches), bool)
    length_US = rng.integers(world.shortest_session, world.touches + 1, (users, world.sessions))
    return np.asarray(np.arange(world.touches) >= world.touches - length_US[..., None])
