"""The leaky worlds: a column that looks like a response is a consequence of the upload.

    leaky response   template_tapped_l |= y · Bernoulli(leak · exp(−(L−1−l) / reach))   the editor opened
    leaky proxy      shared_l = y · 1[cos(item_l, upload) > match] · Bernoulli(leak)        a score filled in later

Whoever reads them predicts uploads nearly perfectly, and learns nothing about what caused them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.errors import ConfigError
from validation.worlds.base import Constants, Outcome, Responses, Sessions
from validation.worlds.logit import LogitWorld


@dataclass(frozen=True, kw_only=True)
class LeakyResponseWorld(LogitWorld):
    """The template tap is switched on by the upload, mostly at the last touches."""

    leak: float = 1.0
    """Chance that an upload switches on its last touch; 0 is the logit world."""
    leak_reach: float = 1.5
    """Touches over which that chance falls to a third."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "template_tapped" not in self.responses:
            raise ConfigError(f"world: responses = {self.responses}: the leak needs 'template_tapped' among them")

    def leak_responses(
        self, responses: Responses, sessions: Sessions, outcome: Outcome, constants: Constants, rng: np.random.Generator
    ) -> Responses:
        del sessions, constants
        from_last_L = np.arange(self.touches)[::-1]
        chance_L = self.leak * np.exp(-from_last_L / self.leak_reach)
        tapped_USL = responses["template_tapped"].copy()
        tapped_USL[outcome.row_N, outcome.session_N] |= rng.random((len(outcome.row_N), self.touches)) < chance_L
        return responses | {"template_tapped": tapped_USL}


@dataclass(frozen=True, kw_only=True)
class LeakyProxyWorld(LogitWorld):
    """`shared` is a match between consumed and uploaded content, so it is never on without an upload."""

    leak: float = 1.0
    """Chance that a match is recorded."""
    match: float = 0.5
    """Cosine from which on two contents match."""

    def leak_responses(
        self, responses: Responses, sessions: Sessions, outcome: Outcome, constants: Constants, rng: np.random.Generator
    ) -> Responses:
        item_NLD = constants.embedding_ID[sessions.item_USL[outcome.row_N, outcome.session_N]]
        norm_NL = np.linalg.norm(item_NLD, axis=-1) * np.linalg.norm(outcome.embedding_ND, axis=-1)[:, None]
        cosine_NL = np.einsum("nld,nd->nl", item_NLD, outcome.embedding_ND) / norm_NL
        shared_USL = np.zeros(sessions.item_USL.shape, bool)
        shared_USL[outcome.row_N, outcome.session_N] = (cosine_NL > self.match) & (
            rng.random(cosine_NL.shape) < self.leak
        )
        return responses | {"shared": shared_USL}
