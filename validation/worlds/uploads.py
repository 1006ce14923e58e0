"""The table of uploads: those that sessions inspired, up to 6 h after them, and those that nothing did.

Background uploads keep 26 h away from every session's end, so that they label no journey.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from validation.worlds.base import Constants, Ints, Outcome, Sessions, World
from validation.worlds.outcome import uploaded_like
from validation.worlds.tables import DAY_US, EPOCH_US, HOUR_US, timestamps, vectors

CLEARANCE_HOURS = 26
UPLOADS_PER_USER = 1 << 10


def upload_table(
    world: World, c: Constants, user_U: Ints, s: Sessions, outcome: Outcome, end_US: Ints, rng: np.random.Generator
) -> pa.Table:
    """Uploads by user and time."""
    row_B, ts_B = _draw_background(world, c, s, end_US, rng)
    item_B = rng.integers(0, world.items, len(row_B))
    embedding_BD = uploaded_like(c.embedding_ID[item_B], rng)
    ts_N = end_US[outcome.row_N, outcome.session_N] + (outcome.delay_hours_N * HOUR_US).astype(np.int64)
    user_M = user_U[np.concatenate([row_B, outcome.row_N])]
    ts_M = np.concatenate([ts_B, ts_N])
    order = np.lexsort((ts_M, user_M))
    return pa.table(
        {
            "user_id": user_M[order],
            "upload_id": user_U[0] * UPLOADS_PER_USER + np.arange(len(order), dtype=np.int64),
            "ts": timestamps(ts_M[order]),
            "embedding": vectors(np.concatenate([embedding_BD, outcome.embedding_ND])[order]),
            "cluster_id": c.cluster_I[np.concatenate([item_B, outcome.item_N])][order].astype(np.int32),
        }
    )


def _draw_background(
    world: World, c: Constants, s: Sessions, end_US: Ints, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """(row, time) of uploads that no session inspired: they follow W, and the past ones are the negative control."""
    rho = world.background_confounding
    log_rate_U = rho * s.w_U - rho**2 / 2 + s.x_UP @ c.delta_history_P
    if world.control_noise:
        noise = world.control_noise
        log_rate_U = log_rate_U + noise * rng.standard_normal(len(log_rate_U)) - noise**2 / 2
    count_U = rng.poisson(world.background_rate * world.days / 30 * np.exp(log_rate_U))
    row_B = np.repeat(np.arange(len(count_U)), count_U)
    ts_B = EPOCH_US + (rng.uniform(0, world.days, len(row_B)) * DAY_US).astype(np.int64)
    clear_B = (np.abs(ts_B[:, None] - end_US[row_B]) >= CLEARANCE_HOURS * HOUR_US).all(1)
    return row_B[clear_B], ts_B[clear_B]
