"""Draws what users do: uploads, what inspired them, and the responses to every touch.

a session's upload resembles touch l with probability ∝ d_l · exp(2 m_l)
level = 2 m + ω W,   watch = σ(−.5 + 1.5 level + .5 noise),   liked ~ σ(−2.5 + 1.5 level),   tapped ~ σ(−4 + 2 level)
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from validation.worlds.base import Bools, Constants, Floats, Outcome, Responses, Sessions, World


def draw_outcome(world: World, c: Constants, s: Sessions, upload_US: Bools, rng: np.random.Generator) -> Outcome:
    """What the uploads are like that sessions end in."""
    row_N, session_N = np.nonzero(upload_US)
    mediator_NL = s.mediator_USL[row_N, session_N]
    weight_NL = s.decay_USL[row_N, session_N] * np.exp(2 * (mediator_NL - mediator_NL.max(1, keepdims=True)))
    chosen_N = (weight_NL.cumsum(1) <= rng.random(len(row_N))[:, None] * weight_NL.sum(1, keepdims=True)).sum(1)
    item_N = s.item_USL[row_N, session_N, np.minimum(chosen_N, world.touches - 1)]
    return Outcome(
        row_N=row_N,
        session_N=session_N,
        item_N=item_N,
        embedding_ND=uploaded_like(c.embedding_ID[item_N], rng),
        delay_hours_N=rng.uniform(1 / 60, 6, len(row_N)),
    )


def uploaded_like(embedding_ND: Floats, rng: np.random.Generator) -> Floats:
    """Embeddings of uploads that such items inspired."""
    return embedding_ND + 0.5 * rng.standard_normal(embedding_ND.shape)


def draw_responses(world: World, c: Constants, s: Sessions, outcome: Outcome, rng: np.random.Generator) -> Responses:
    """What the world measures of the mediator at each touch, and what leaks into it."""
    shape = s.mediator_USL.shape
    level_USL = 2.0 * s.mediator_USL + world.contamination * s.w_U[:, None, None]
    drawn: Responses = {
        "watch_ratio": expit(-0.5 + 1.5 * level_USL + 0.5 * rng.standard_normal(shape)).astype(np.float32),
        "liked": rng.random(shape) < expit(-2.5 + 1.5 * level_USL),
        "template_tapped": rng.random(shape) < expit(-4.0 + 2.0 * level_USL),
    }
    held = {name: drawn[name] for name in world.responses}
    for name, value_USL in held.items():
        if value_USL.dtype == bool and world.flip_share > 0:
            held[name] = value_USL ^ (rng.random(shape) < world.flip_share)
    return world.leak_responses(held, s, outcome, c, rng)
