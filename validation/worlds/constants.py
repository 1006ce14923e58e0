"""What a seed draws once: effects, affinities, the catalogue, and the intercept that gives the upload rate.

The intercept comes from a pilot that is never randomised, so that a world and its randomised copy are the same.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from features.errors import ConfigError
from validation.worlds.base import Constants, Floats, World
from validation.worlds.catalogue import Catalogue
from validation.worlds.sessions import draw_sessions

PILOT_USERS = 2_000


def draw_constants(world: World, seed: int, catalogue: Catalogue | None) -> Constants:
    """The constants of `world`; raises ConfigError where no intercept gives its upload rate."""
    rng = np.random.default_rng(seed)
    family_rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    constants = world.vary(_draw_shared(world, rng, catalogue), family_rng)
    return replace(constants, intercept=_intercept(world, constants, rng, catalogue))


def _draw_shared(world: World, rng: np.random.Generator, catalogue: Catalogue | None) -> Constants:
    K, P, I, S = world.clusters, world.profile_dim, world.items, world.sessions  # noqa: E741
    beta_K = world.draw_effects(rng)
    standard_K = _standardised(beta_K)
    noise_K = rng.standard_normal(K)
    noise_K = _standardised(noise_K - standard_K * (standard_K @ noise_K) / (standard_K @ standard_K))
    corr = world.affinity_corr
    author_cluster = rng.integers(0, K, world.authors)
    author_I = rng.integers(0, world.authors, I)
    cluster_I = author_cluster[author_I]
    if catalogue:
        author_I, cluster_I = catalogue.author_I, catalogue.cluster_I
    centre_KD = rng.standard_normal((K, world.embedding_dim))
    return Constants(
        beta_K=beta_K,
        kappa_SK=np.tile(corr * standard_K + np.sqrt(1 - corr**2) * noise_K, (S, 1)),
        G_KP=world.personal_sd * rng.standard_normal((K, P)) / np.sqrt(P) * 2,
        A_KP=world.profile_affinity * rng.standard_normal((K, P)),
        psi_K=np.zeros(K),
        zeta_K=np.zeros(K),
        delta_P=0.3 * rng.standard_normal(P),
        delta_history_P=0.2 * rng.standard_normal(P),
        popularity_SI=np.tile(0.7 * rng.standard_normal(I), (S, 1)),
        shift_S=np.zeros(S),
        item_I=catalogue.item_I if catalogue else np.arange(I, dtype=np.int64),
        author_I=author_I,
        cluster_I=cluster_I,
        embedding_ID=centre_KD[cluster_I] + 0.3 * rng.standard_normal((I, world.embedding_dim)),
        intercept=0.0,
    )


def _intercept(world: World, constants: Constants, rng: np.random.Generator, catalogue: Catalogue | None) -> float:
    """Bisect b until `upload_rate` of a pilot's sessions end in an upload."""
    observed = replace(world, randomised_share=0.0)
    pilot = draw_sessions(observed, constants, PILOT_USERS, rng, catalogue)
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        too_low = world.upload_probability(middle, pilot).mean() < world.upload_rate
        low, high = (middle, high) if too_low else (low, middle)
    reached = float(world.upload_probability(low, pilot).mean())
    if abs(reached - world.upload_rate) > 0.01 * world.upload_rate:
        raise ConfigError(
            f"world: upload_rate = {world.upload_rate}: the content alone makes {reached:.3f}; "
            "lower effect_scale or raise upload_rate"
        )
    return low


def _standardised(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())
