"""The logit world: hidden intent W drives both what users see and whether they upload.

    logit P(Y=1) = b + γ·M + ρ·W + x·δ          M = Σ_l d(gap_l) m_l,   m_l = β_k(l) exp(x·G_k(l)) + σ_m·noise
    exposure     ∝ exp(pop_i + x·A_k(i) + λ·W·κ_k(i)),   corr(κ, β) = affinity_corr
    responses    watch = σ(a₀ + a₁ m_l + ω W + noise), like and template tap ~ Bernoulli(σ(...))
    background   uploads away from sessions ~ Poisson(exp(ν₀ + ρ_n W + x·δ_n)); the past ones are the
                 negative control

The truth averages over W given x and over the mediator's noise, by Gauss-Hermite quadrature:
P(Y=1|do T, x) = E_z[σ(b + x·δ + γ Σ d m̄ + z·√(ρ² + γ² Σ d² σ_m²))].
Reference: Pearl (1995), "Causal diagrams for empirical research", for the front door W -> T -> M -> Y <- W.

Shapes: U users, S sessions a user, L touches a session, K clusters, I items, P profile columns, D embedding.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import expit

from features.errors import ConfigError
from features.files import atomic_dir

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
EPOCH_US = 1_767_225_600_000_000  # 2026-01-01 UTC, day 0 of the logs
FIRST_SESSION_DAY, SESSION_SPACING_DAYS, SESSION_JITTER_DAYS = 36.0, 7.4, 0.15
USERS_PER_CHUNK = 5_000


@dataclass(frozen=True, kw_only=True)
class LogitWorld:
    """Parameters of the logit world; effects act on the logit scale."""

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
    sessions: int = 4
    """S, sessions a user, about a week apart so that one never falls into the next one's lookback."""
    days: int = 60
    """Span of the logs."""
    effect_scale: float = 1.0
    """γ, effect of the mediator on the upload logit; 0 = content has no effect while responses stay."""
    effect_mean: float = 0.08
    """Mean of β over clusters (gamma-distributed): what one touch of a cluster adds to the mediator."""
    effect_shape: float = 2.0
    """Shape of that gamma; 1 is exponential, smaller is heavier-tailed."""
    personal_sd: float = 0.35
    """Standard deviation of G: how strongly profiles scale a cluster's effect."""
    mediator_noise: float = 0.35
    """σ_m, spread of one touch's inspiration around its mean."""
    confounding: float = 1.5
    """ρ, effect of hidden intent W on the upload logit."""
    affinity_corr: float = -0.6
    """Correlation over clusters between exposure's affinity κ for W and the effect β."""
    affinity: float = 0.5
    """λ, strength of W in exposure."""
    profile_affinity: float = 0.3
    """Standard deviation of A: strength of x in exposure."""
    contamination: float = 0.0
    """ω, shift of all of a user's responses by W."""
    upload_rate: float = 0.10
    """Share of sessions that end in an upload (sets b)."""
    background_rate: float = 1.0
    """Mean uploads a user and 30 days that no session inspired."""
    background_confounding: float = 0.7
    """ρ_n, effect of W on the log rate of background uploads."""
    profile_share: float = 0.99
    """Share of users who have a profile row."""
    randomised_share: float = 0.0
    """Share of touches whose exposure was drawn uniformly at random."""
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


@dataclass(frozen=True, kw_only=True)
class _Constants:
    """What a seed draws once for the whole world."""

    beta_K: Floats
    kappa_K: Floats
    G_KP: Floats
    A_KP: Floats
    delta_P: Floats
    delta_history_P: Floats
    popularity_I: Floats
    cluster_I: Ints
    author_I: Ints
    embedding_ID: Floats
    intercept: float


def simulate(world: LogitWorld, users: int, seed: int, out: Path) -> None:
    """Write the contract's four tables and `truth/` for `users` users under `out` (replaced as a whole).

    Raises ConfigError where the numbers cannot make a world.
    """
    if users < 10:
        raise ConfigError(f"users = {users}: a world needs at least 10 users")
    if world.days < FIRST_SESSION_DAY + SESSION_SPACING_DAYS * (world.sessions - 1) + 1.5:
        raise ConfigError(f"sessions = {world.sessions} do not fit into days = {world.days}")
    rng = np.random.default_rng(seed)
    constants = _draw_constants(world, rng)
    with atomic_dir(out) as folder:
        _write(folder / "items", _items_table(world, constants))
        writers = _Writers(folder)
        for first in range(0, users, USERS_PER_CHUNK):
            user_U = np.arange(first, min(first + USERS_PER_CHUNK, users), dtype=np.int64)
            writers.write(_simulate_users(world, constants, user_U, rng))
        writers.close()
        description = {"world": asdict(world), "users": users, "seed": seed}
        (folder / "truth" / "world.json").write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")


def _draw_constants(world: LogitWorld, rng: np.random.Generator) -> _Constants:
    K, P, I = world.clusters, world.profile_dim, world.items  # noqa: E741
    beta_K = rng.gamma(world.effect_shape, world.effect_mean / world.effect_shape, K)
    standard_K = _standardised(beta_K)
    noise_K = rng.standard_normal(K)
    noise_K = _standardised(noise_K - standard_K * (standard_K @ noise_K) / (standard_K @ standard_K))
    corr = world.affinity_corr
    author_cluster = rng.integers(0, K, world.authors)
    author_I = rng.integers(0, world.authors, I)
    cluster_I = author_cluster[author_I]
    centre_KD = rng.standard_normal((K, world.embedding_dim))
    constants = _Constants(
        beta_K=beta_K,
        kappa_K=corr * standard_K + np.sqrt(1 - corr**2) * noise_K,
        G_KP=world.personal_sd * rng.standard_normal((K, P)) / np.sqrt(P) * 2,
        A_KP=world.profile_affinity * rng.standard_normal((K, P)),
        delta_P=0.3 * rng.standard_normal(P),
        delta_history_P=0.2 * rng.standard_normal(P),
        popularity_I=0.7 * rng.standard_normal(I),
        cluster_I=cluster_I,
        author_I=author_I,
        embedding_ID=centre_KD[cluster_I] + 0.3 * rng.standard_normal((I, world.embedding_dim)),
        intercept=0.0,
    )
    return _with_intercept(world, constants, rng)


def _with_intercept(world: LogitWorld, constants: _Constants, rng: np.random.Generator) -> _Constants:
    """Bisect b until `upload_rate` of a pilot's sessions end in an upload."""
    pilot = _draw_sessions(world, constants, 2_000, rng)
    logit_N = pilot.logit_US.ravel()
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(logit_N + middle).mean() < world.upload_rate else (low, middle)
    return replace(constants, intercept=(low + high) / 2)


@dataclass(frozen=True, kw_only=True)
class _Sessions:
    x_UP: Floats
    w_U: Floats
    item_USL: Ints
    cluster_USL: Ints
    randomised_USL: NDArray[np.bool_]
    gap_hours_USL: Floats
    decay_USL: Floats
    mean_USL: Floats
    mediator_USL: Floats
    logit_US: Floats


def _draw_sessions(world: LogitWorld, c: _Constants, users: int, rng: np.random.Generator) -> _Sessions:
    S, L = world.sessions, world.touches
    x_UP = rng.standard_normal((users, world.profile_dim))
    w_U = rng.standard_normal(users)
    taste_UK = x_UP @ c.A_KP.T + world.affinity * w_U[:, None] * c.kappa_K
    item_USL, randomised_USL = _draw_exposures(world, c, taste_UK, rng)
    cluster_USL = c.cluster_I[item_USL]
    step_minutes = np.minimum(rng.exponential(world.mean_gap_minutes, (users, S, L)), 29.0)
    step_minutes[:, :, -1] = 0.0
    gap_hours_USL = np.flip(np.cumsum(np.flip(step_minutes, -1), -1), -1) / 60
    decay_USL = np.exp(-gap_hours_USL / world.decay_hours)
    scale_UK = np.exp(x_UP @ c.G_KP.T)
    mean_UK = c.beta_K * scale_UK
    mean_USL = np.take_along_axis(mean_UK, cluster_USL.reshape(users, -1), 1).reshape(users, S, L)
    mediator_USL = mean_USL + world.mediator_noise * rng.standard_normal((users, S, L))
    logit_US = (
        c.intercept
        + world.effect_scale * (decay_USL * mediator_USL).sum(-1)
        + (world.confounding * w_U + x_UP @ c.delta_P)[:, None]
    )
    return _Sessions(
        x_UP=x_UP, w_U=w_U, item_USL=item_USL, cluster_USL=cluster_USL, randomised_USL=randomised_USL,
        gap_hours_USL=gap_hours_USL, decay_USL=decay_USL, mean_USL=mean_USL, mediator_USL=mediator_USL,
        logit_US=logit_US,
    )  # fmt: skip


def _draw_exposures(
    world: LogitWorld, c: _Constants, taste_UK: Floats, rng: np.random.Generator
) -> tuple[Ints, NDArray[np.bool_]]:
    """Items by softmax(popularity + taste of the item's cluster): cluster first, then item within it."""
    users, shape = len(taste_UK), (world.sessions, world.touches)
    mass_I = np.exp(c.popularity_I)
    mass_K = np.bincount(c.cluster_I, mass_I, world.clusters)
    share_UK = mass_K * np.exp(taste_UK)
    cumulative_UK = np.cumsum(share_UK / share_UK.sum(1, keepdims=True), 1)
    draw_UN = rng.random((users, world.sessions * world.touches))
    cluster_UN = np.stack([np.searchsorted(row, u) for row, u in zip(cumulative_UK, draw_UN, strict=True)])
    cluster_UN = np.minimum(cluster_UN, world.clusters - 1)
    order = np.argsort(c.cluster_I, kind="stable")
    ends_K = np.cumsum(np.bincount(c.cluster_I, minlength=world.clusters))
    within_I = np.cumsum(mass_I[order])
    start_K = np.concatenate([[0.0], within_I])[np.concatenate([[0], ends_K[:-1]])]
    target_UN = start_K[cluster_UN] + rng.random(cluster_UN.shape) * mass_K[cluster_UN] * (1 - 1e-12)
    item_UN = order[np.minimum(np.searchsorted(within_I, target_UN, side="right"), world.items - 1)]
    randomised_UN = rng.random(item_UN.shape) < world.randomised_share
    item_UN = np.where(randomised_UN, rng.integers(0, world.items, item_UN.shape), item_UN)
    return item_UN.reshape(users, *shape).astype(np.int64), randomised_UN.reshape(users, *shape)


def _simulate_users(world: LogitWorld, c: _Constants, user_U: Ints, rng: np.random.Generator) -> dict[str, pa.Table]:
    s = _draw_sessions(world, c, len(user_U), rng)
    end_US = _session_ends(world, len(user_U), rng)
    ts_USL = end_US[:, :, None] - np.round(s.gap_hours_USL * HOUR_US).astype(np.int64)
    ts_USL -= np.arange(world.touches)[::-1]  # no two touches share a microsecond
    upload_US = rng.random(s.logit_US.shape) < expit(s.logit_US)
    return {
        "touchpoints": _touch_table(world, c, user_U, s, ts_USL, rng),
        "uploads": _upload_table(world, c, user_U, s, end_US, upload_US, rng),
        "users": _user_table(world, user_U, s, rng),
        **_truth_tables(world, c, user_U, s, ts_USL),
    }


def _session_ends(world: LogitWorld, users: int, rng: np.random.Generator) -> Ints:
    """t_obs of each session, a little over a week apart: outside the lookback, inside the post window."""
    jitter_US = rng.uniform(-SESSION_JITTER_DAYS, SESSION_JITTER_DAYS, (users, world.sessions))
    day_US = FIRST_SESSION_DAY + SESSION_SPACING_DAYS * np.arange(world.sessions) + jitter_US
    return EPOCH_US + (day_US * DAY_US).astype(np.int64)


def _touch_table(
    world: LogitWorld, c: _Constants, user_U: Ints, s: _Sessions, ts_USL: Ints, rng: np.random.Generator
) -> pa.Table:
    shape = s.item_USL.shape
    level_USL = 2.0 * s.mediator_USL + world.contamination * s.w_U[:, None, None]
    watch = expit(-0.5 + 1.5 * level_USL + 0.5 * rng.standard_normal(shape))
    liked = rng.random(shape) < expit(-2.5 + 1.5 * level_USL)
    tapped = rng.random(shape) < expit(-4.0 + 2.0 * level_USL)
    item_N = s.item_USL.ravel()
    columns = {
        "user_id": np.repeat(user_U, shape[1] * shape[2]),
        "item_id": item_N,
        "author_id": c.author_I[item_N],
        "cluster_id": s.cluster_USL.ravel().astype(np.int32),
        "ts": _timestamps(ts_USL.ravel()),
        "watch_ratio": watch.ravel().astype(np.float32),
        "liked": liked.ravel(),
        "template_tapped": tapped.ravel(),
    }
    if world.randomised_share > 0:
        columns["randomised"] = s.randomised_USL.ravel()
    return pa.table(columns)


def _upload_table(
    world: LogitWorld, c: _Constants, user_U: Ints, s: _Sessions, end_US: Ints,
    upload_US: NDArray[np.bool_], rng: np.random.Generator,
) -> pa.Table:  # fmt: skip
    """Background uploads, none within 26 h of a session's end, and up to 6 h after it what it inspired."""
    rho = world.background_confounding
    rate_U = world.background_rate * world.days / 30 * np.exp(rho * s.w_U - rho**2 / 2 + s.x_UP @ c.delta_history_P)
    background_row = np.repeat(np.arange(len(user_U)), rng.poisson(rate_U))
    background_ts = EPOCH_US + (rng.uniform(0, world.days, len(background_row)) * DAY_US).astype(np.int64)
    near = np.abs(background_ts[:, None] - end_US[background_row]) < 26 * HOUR_US
    background_row, background_ts = background_row[~near.any(1)], background_ts[~near.any(1)]
    background_item = rng.integers(0, world.items, len(background_row))
    row_N, session_N = np.nonzero(upload_US)
    weight_NL = s.decay_USL[row_N, session_N] * np.exp(2 * s.mediator_USL[row_N, session_N])
    pick_N = (weight_NL.cumsum(1) < rng.random(len(row_N))[:, None] * weight_NL.sum(1, keepdims=True)).sum(1)
    now_item = s.item_USL[row_N, session_N, pick_N]
    now_ts = end_US[row_N, session_N] + (rng.uniform(1 / 60, 6, len(row_N)) * HOUR_US).astype(np.int64)
    item_N = np.concatenate([background_item, now_item])
    embedding_ND = c.embedding_ID[item_N] + 0.5 * rng.standard_normal((len(item_N), world.embedding_dim))
    user_N = user_U[np.concatenate([background_row, row_N])]
    ts_N = np.concatenate([background_ts, now_ts])
    order = np.lexsort((ts_N, user_N))
    return pa.table(
        {
            "user_id": user_N[order],
            "upload_id": (user_U[0] << 10) + np.arange(len(order), dtype=np.int64),
            "ts": _timestamps(ts_N[order]),
            "embedding": _vectors(embedding_ND[order]),
            "cluster_id": c.cluster_I[item_N][order].astype(np.int32),
        }
    )


def _user_table(world: LogitWorld, user_U: Ints, s: _Sessions, rng: np.random.Generator) -> pa.Table:
    """Profiles x, and a region that matters for nothing."""
    columns = {"user_id": user_U, "event_timestamp": _timestamps(np.full(len(user_U), EPOCH_US))}
    columns |= {f"x{p}": column.astype(np.float32) for p, column in enumerate(s.x_UP.T)}
    columns["region"] = np.array(["north", "east", "south", "west"])[rng.integers(0, 4, len(user_U))]
    return pa.table(columns).filter(pa.array(rng.random(len(user_U)) < world.profile_share))


def _items_table(world: LogitWorld, c: _Constants) -> pa.Table:
    return pa.table(
        {
            "item_id": np.arange(world.items, dtype=np.int64),
            "author_id": c.author_I,
            "cluster_id": c.cluster_I.astype(np.int32),
            "embedding": _vectors(c.embedding_ID),
            "published_ts": _timestamps(np.full(world.items, EPOCH_US)),
        }
    )


def _truth_tables(world: LogitWorld, c: _Constants, user_U: Ints, s: _Sessions, ts_USL: Ints) -> dict[str, pa.Table]:
    gamma = world.effect_scale
    base_US1 = (c.intercept + s.x_UP @ c.delta_P)[:, None, None]
    mean_USL = gamma * s.decay_USL * s.mean_USL
    noise_USL = (gamma * s.decay_USL * world.mediator_noise) ** 2
    total_US1, noise_US1 = mean_USL.sum(-1, keepdims=True), noise_USL.sum(-1, keepdims=True)
    variance_W = world.confounding**2
    p_do_US1 = _mean_probability(base_US1 + total_US1, variance_W + noise_US1)
    p_without_USL = _mean_probability(
        base_US1 + total_US1 - mean_USL, variance_W + np.maximum(noise_US1 - noise_USL, 0.0)
    )
    p_none_US1 = _mean_probability(base_US1 + np.zeros_like(total_US1), np.full_like(total_US1, variance_W))
    _, S, L = s.item_USL.shape
    return {
        "truth/touchpoints": pa.table(
            {
                "user_id": np.repeat(user_U, S * L),
                "t_obs": _timestamps(np.repeat(ts_USL[:, :, -1].ravel(), L)),
                "item_id": s.item_USL.ravel(),
                "ts": _timestamps(ts_USL.ravel()),
                "delta": (p_do_US1 - p_without_USL).ravel(),
            }
        ),
        "truth/journeys": pa.table(
            {
                "user_id": np.repeat(user_U, S),
                "t_obs": _timestamps(ts_USL[:, :, -1].ravel()),
                "p_do": p_do_US1.ravel(),
                "p_do_none": p_none_US1.ravel(),
            }
        ),
    }


def _mean_probability(logit: Floats, variance: Floats, nodes: int = 15) -> Floats:
    """E[σ(logit + z·√variance)], z standard normal, by Gauss-Hermite quadrature."""
    node_Q, weight_Q = np.polynomial.hermite_e.hermegauss(nodes)
    sd = np.sqrt(variance)
    parts = (w * expit(logit + sd * z) for z, w in zip(node_Q, weight_Q / weight_Q.sum(), strict=True))
    return np.asarray(sum(parts))


def _standardised(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())


def _timestamps(microseconds: Ints) -> pa.Array:
    return pa.array(microseconds, pa.int64()).cast(pa.timestamp("us"))


def _vectors(values_ND: Floats) -> pa.Array:
    flat = pa.array(values_ND.astype(np.float32).ravel())
    offsets = pa.array(np.arange(len(values_ND) + 1, dtype=np.int32) * values_ND.shape[1])
    return pa.ListArray.from_arrays(offsets, flat)


def _write(folder: Path, table: pa.Table) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "part-0.parquet", compression="zstd")


class _Writers:
    """One growing Parquet file a table."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, pq.ParquetWriter] = {}

    def write(self, tables: dict[str, pa.Table]) -> None:
        for name, table in tables.items():
            if name not in self._open:
                (self._folder / name).mkdir(parents=True)
                path = self._folder / name / "part-0.parquet"
                self._open[name] = pq.ParquetWriter(path, table.schema, compression="zstd")
            self._open[name].write_table(table)

    def close(self) -> None:
        for writer in self._open.values():
            writer.close()
