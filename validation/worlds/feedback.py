"""The feedback world: what a user uploads changes what the feed shows afterwards.

    taste for cluster k in session s = x·A_k + λ·W·κ_k + ζ_k · (uploads that sessions before s ended in)
    ζ_k ~ Normal(0, feedback²)

The front door still holds, for an upload is no cause of what came before it. But exposures after the horizon are then
a consequence of the outcome, and no negative control. With `direct_effect` two assumptions break at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from validation.worlds.base import Bools, Constants, Sessions
from validation.worlds.direct_path import DirectPathWorld
from validation.worlds.sessions import choose, mediator_mean, taste


@dataclass(frozen=True, kw_only=True)
class FeedbackWorld(DirectPathWorld):
    """Uploads feed the feed."""

    direct_effect: float = 0.0
    feedback: float = 0.5
    """Standard deviation over clusters of ζ."""

    def vary(self, constants: Constants, rng: np.random.Generator) -> Constants:
        constants = super().vary(constants, rng)
        return replace(constants, zeta_K=self.feedback * rng.standard_normal(self.clusters))

    def decide_uploads(self, c: Constants, sessions: Sessions, rng: np.random.Generator) -> tuple[Sessions, Bools]:
        """Session after session: what the earlier ones ended in decides what this one shows."""
        uniform_US = rng.random(sessions.base_US.shape)
        upload_US = np.zeros(uniform_US.shape, dtype=bool)
        for session in range(self.sessions):
            if session:
                sessions = self._shown_after(c, sessions, session, upload_US, rng)
            p_US = self.upload_probability(c.intercept, sessions)
            upload_US[:, session] = uniform_US[:, session] < p_US[:, session]
        return sessions, upload_US

    def _shown_after(
        self, c: Constants, s: Sessions, session: int, upload_US: Bools, rng: np.random.Generator
    ) -> Sessions:
        """The sessions with this one filled anew."""
        uploads_U1 = upload_US[:, :session].sum(1, keepdims=True)
        taste_UK = taste(self, c, session, s.x_UP, s.w_U) + uploads_U1 * c.zeta_K
        shape_UL = (len(s.w_U), self.touches)
        chosen_UL = choose(c.cluster_I, c.popularity_SI[session], taste_UK, rng.random(shape_UL), rng.random(shape_UL))
        item_USL = s.item_USL.copy()
        item_USL[:, session] = np.where(s.randomised_USL[:, session], item_USL[:, session], chosen_UL)
        cluster_USL = c.cluster_I[item_USL]
        mean_USL = mediator_mean(c, s.x_UP, cluster_USL)
        mediator_USL = s.mediator_USL.copy()
        mediator_USL[:, session] = self.draw_mediator(mean_USL, rng)[:, session]
        return replace(
            s, item_USL=item_USL, cluster_USL=cluster_USL, direct_USL=s.decay_USL * c.psi_K[cluster_USL],
            mean_USL=mean_USL, mediator_USL=mediator_USL,
        )  # fmt: skip
