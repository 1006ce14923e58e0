"""What every world shares: its parameters, what a seed draws once, what sessions hold, and what a family decides.

    exposure     ∝ exp(pop_i + x·A_k(i) + λ·W·κ_k(i)),   corr(κ, β) = affinity_corr
    mediator     m_l = β_k(l) exp(x·G_k(l)) + σ_m·noise
    outcome      P(Y=1 | x, W, d, m): the family's law        (d = exp(−gap / decay_hours))
    responses    watch = σ(a₀ + a₁ m_l + ω W + noise), like and template tap ~ Bernoulli(σ(...))
    background   uploads away from sessions ~ Poisson(exp(ν₀ + ρ_n W + x·δ_n)); the past ones are the
                 negative control

Hidden intent W drives both what users see and whether they upload; content acts through the mediator M.
Reference: Pearl (1995), "Causal diagrams for empirical research", for the front door W -> T -> M -> Y <- W.

Shapes: U users, S sessions a user, L touches a session, K clusters, I items, P profile columns, D embedding.
Where sessions differ in length, the missing touches come first and have decay 0: they act on nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import ConfigError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Responses = dict[str, NDArray[Any]]
"""Column -> its values, floats or flags [U, S, L]."""

FIRST_SESSION_DAY, SESSION_SPACING_DAYS, SESSION_JITTER_DAYS = 36.0, 7.4, 0.15
RESPONSES = ("watch_ratio", "liked", "template_tapped")


@dataclass(frozen=True, kw_only=True)
class World(ABC):
    """Parameters that every family has; a family adds its own, an outcome law and the truth that follows."""

    clusters: int = 40
    """K, content clusters."""
    items: int = 2_000
    """I, catalogue size."""
    authors: int = 400
    """Creators; each makes items of one cluster."""
    embedding_dim: int = 16
    """D, content embedding size: the cluster's centre plus noise."""
    profile_dim: int = 4
    """P, standard-normal profile columns x."""
    touches: int = 16
    """L, touches a session."""
    shortest_session: int | None = None
    """Where set, a session has uniformly this many to L touches."""
    sessions: int = 4
    """S, sessions a user, about a week apart so that one never falls into the next one's lookback."""
    days: int = 60
    """Span of the logs."""
    effect_scale: float = 1.0
    """γ, effect of the mediator on the upload; 0 = content has no effect while responses stay."""
    effect_mean: float = 0.08
    """Mean of β over clusters (gamma-distributed): what one touch of a cluster adds to the mediator."""
    effect_shape: float = 2.0
    """Shape of that gamma; 1 is exponential, smaller is heavier-tailed."""
    personal_sd: float = 0.35
    """Standard deviation of G: how strongly profiles scale a cluster's effect."""
    mediator_noise: float = 0.35
    """σ_m, spread of one touch's inspiration around its mean."""
    confounding: float = 1.5
    """ρ, effect of hidden intent W on the upload."""
    affinity_corr: float = -0.6
    """Correlation over clusters between exposure's affinity κ for W and the effect β."""
    affinity: float = 0.5
    """λ, strength of W in exposure; from about 1.2 on T reveals W, and adjusting for T removes the confounding."""
    profile_affinity: float = 0.3
    """Standard deviation of A: strength of x in exposure."""
    contamination: float = 0.0
    """ω, shift of all of a user's responses by W."""
    responses: tuple[str, ...] = RESPONSES
    """Responses that the logs hold."""
    flip_share: float = 0.0
    """Share of response flags that were recorded the wrong way round."""
    upload_rate: float = 0.10
    """Share of sessions that end in an upload (sets b)."""
    background_rate: float = 1.0
    """Mean uploads a user and 30 days that no session inspired."""
    background_confounding: float = 0.7
    """ρ_n, effect of W on the log rate of background uploads."""
    control_noise: float = 0.0
    """Standard deviation over users of the log rate of background uploads that has nothing to do with W."""
    profile_share: float = 0.99
    """Share of users who have a profile row."""
    randomised_share: float = 0.0
    """Share of touches whose exposure was drawn uniformly at random; 1 is the same world as an experiment."""
    decay_hours: float = 12.0
    """Time constant of d(gap) = exp(-gap / decay_hours)."""
    mean_gap_minutes: float = 6.0
    """Mean time between touches of a session; capped below the 30 min that would split it."""

    def __post_init__(self) -> None:
        if self.clusters < 2 or self.items < 1 or abs(self.affinity_corr) > 1 or not 0 < self.upload_rate < 1:
            raise ConfigError(
                f"world: clusters = {self.clusters}, items = {self.items}, affinity_corr = {self.affinity_corr}, "
                f"upload_rate = {self.upload_rate}: need 2 clusters, 1 item, a correlation and a share"
            )
        if unknown := [name for name in self.responses if name not in RESPONSES]:
            raise ConfigError(f"world: responses = {unknown}: a world can measure {', '.join(RESPONSES)}")
        if not 1 <= (self.shortest_session or self.touches) <= self.touches:
            raise ConfigError(
                f"world: shortest_session = {self.shortest_session}: need 1 to touches = {self.touches}, or none"
            )
        if self.days < FIRST_SESSION_DAY + SESSION_SPACING_DAYS * (self.sessions - 1) + 1.5:
            raise ConfigError(f"world: sessions = {self.sessions} do not fit into days = {self.days}")

    @property
    def front_door_holds(self) -> bool:
        """Whether all that content does to the upload goes through the mediator that responses measure."""
        return True

    @property
    def confounded(self) -> bool:
        """Whether W drives both what users see and what they upload."""
        return self.affinity != 0 and self.confounding != 0 and self.randomised_share < 1

    @property
    def test_from_day(self) -> float | None:
        """Fit on journeys that end before this day of the logs, test on the others; None: split by user alone."""
        return None

    def draw_effects(self, rng: np.random.Generator) -> Floats:
        """beta_K."""
        return rng.gamma(self.effect_shape, self.effect_mean / self.effect_shape, self.clusters)

    def draw_mediator(self, mean_USL: Floats, rng: np.random.Generator) -> Floats:
        """mediator_USL, whose mean is `mean_USL`."""
        return mean_USL + self.mediator_noise * rng.standard_normal(mean_USL.shape)

    def vary(self, constants: Constants, rng: np.random.Generator) -> Constants:
        """The constants with what only this family draws; `rng` is a stream of its own."""
        del rng
        return constants

    def decide_uploads(self, c: Constants, sessions: Sessions, rng: np.random.Generator) -> tuple[Sessions, Bools]:
        """Which sessions end in an upload [U, S], and the sessions as they were after all: unchanged by it."""
        uniform_US = rng.random(sessions.base_US.shape)
        return sessions, uniform_US < self.upload_probability(c.intercept, sessions)

    def leak_responses(
        self, responses: Responses, sessions: Sessions, outcome: Outcome, constants: Constants, rng: np.random.Generator
    ) -> Responses:
        """The responses with what the upload did to them afterwards: nothing, as it should be."""
        del sessions, outcome, constants, rng
        return responses

    @abstractmethod
    def upload_probability(self, intercept: float, sessions: Sessions) -> Floats:
        """p_US: P(Y=1) given all that was drawn, W and the mediator included."""

    @abstractmethod
    def truth(self, intercept: float, sessions: Sessions) -> Truth:
        """What interventions do, on average over W given x and over the mediator's noise."""


@dataclass(frozen=True, kw_only=True)
class Constants:
    """What a seed draws once for the whole world.

    kappa_SK, popularity_SI, shift_S: affinity, popularity and base rate in each session (equal without drift).
    psi_K: what a touch does to the upload's logit past the mediator (0 where the front door holds).
    zeta_K: what an upload adds to the taste by which later sessions are filled (0 without feedback).
    item_I, author_I, cluster_I: the catalogue.
    """

    beta_K: Floats
    kappa_SK: Floats
    G_KP: Floats
    A_KP: Floats
    psi_K: Floats
    zeta_K: Floats
    delta_P: Floats
    delta_history_P: Floats
    popularity_SI: Floats
    shift_S: Floats
    item_I: Ints
    author_I: Ints
    cluster_I: Ints
    embedding_ID: Floats
    intercept: float


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """A chunk of users' sessions up to the moment that decides on the upload.

    profile_row_U: row of the catalogue's profiles, 0 without one. item_USL: position in the catalogue.
    base_US: x·δ and the session's shift. direct_USL: decay · ψ, past the mediator. mean_USL: mediator's mean.
    """

    profile_row_U: Ints
    x_UP: Floats
    w_U: Floats
    item_USL: Ints
    cluster_USL: Ints
    present_USL: Bools
    randomised_USL: Bools
    gap_hours_USL: Floats
    decay_USL: Floats
    base_US: Floats
    direct_USL: Floats
    mean_USL: Floats
    mediator_USL: Floats


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The sessions that ended in an upload: who, which session, what inspired it, what it looks like, when."""

    row_N: Ints
    session_N: Ints
    item_N: Ints
    embedding_ND: Floats
    delay_hours_N: Floats


@dataclass(frozen=True, kw_only=True)
class Truth:
    """P(Y=1 | do T, x), the same without each touch, and without all of them."""

    p_do_US: Floats
    p_without_USL: Floats
    p_none_US: Floats
