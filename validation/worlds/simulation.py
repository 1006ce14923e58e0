"""A world -> logs in the data contract, and `truth/`: chunk by chunk of users, in bounded memory.

Every chunk has a random stream of its own, derived from the seed, its number and the randomised share: a randomised
copy of a world has the same constants and other people, so that it shares no noise with logs a model was fitted on.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.errors import ConfigError
from features.files import atomic_dir
from validation.worlds.base import Constants, Ints, World
from validation.worlds.catalogue import Catalogue
from validation.worlds.constants import draw_constants
from validation.worlds.outcome import draw_outcome, draw_responses
from validation.worlds.sessions import draw_sessions
from validation.worlds.tables import Writers, items_table, session_times, touch_table, truth_tables, user_table
from validation.worlds.uploads import upload_table

TOUCHES_PER_CHUNK = 320_000
LEAST_USERS = 10


def simulate(world: World, users: int, seed: int, out: Path, catalogue: Catalogue | None = None) -> None:
    """Write the contract's four tables and `truth/` for `users` users under `out` (replaced as a whole).

    catalogue: real profiles, authors and clusters instead of drawn ones; their numbers replace the world's.
    Raises ConfigError where the numbers cannot make a world.
    """
    if users < LEAST_USERS:
        raise ConfigError(f"users = {users}: a world needs at least {LEAST_USERS} users")
    if catalogue:
        world = catalogue.sized(world)
    constants = draw_constants(world, seed, catalogue)
    chunk = max(TOUCHES_PER_CHUNK // (world.sessions * world.touches), 1)
    with atomic_dir(out) as folder, Writers(folder) as writers:
        writers.write({"items": items_table(constants)})
        for number, first in enumerate(range(0, users, chunk)):
            user_U = np.arange(first, min(first + chunk, users), dtype=np.int64)
            key = (2, number, round(world.randomised_share * 1e6))
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
            writers.write(_simulate_users(world, constants, user_U, rng, catalogue))
        description = {
            "world": asdict(world),
            "family": type(world).__name__,
            "users": users,
            "seed": seed,
            "front_door_holds": world.front_door_holds,
            "confounded": world.confounded,
            "test_from_day": world.test_from_day,
        }
        (folder / "truth" / "world.json").write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")


def _simulate_users(
    world: World, c: Constants, user_U: Ints, rng: np.random.Generator, catalogue: Catalogue | None
) -> dict[str, pa.Table]:
    sessions = draw_sessions(world, c, len(user_U), rng, catalogue)
    sessions, upload_US = world.decide_uploads(c, sessions, rng)
    outcome = draw_outcome(world, c, sessions, upload_US, rng)
    responses = draw_responses(world, c, sessions, outcome, rng)
    end_US, ts_USL = session_times(world, sessions, rng)
    return {
        "touchpoints": touch_table(world, c, user_U, sessions, responses, ts_USL),
        "uploads": upload_table(world, c, user_U, sessions, outcome, end_US, rng),
        "users": user_table(world, user_U, sessions, rng, catalogue),
        **truth_tables(world.truth(c.intercept, sessions), c, user_U, sessions, ts_USL),
    }
