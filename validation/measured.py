"""What the judges measure before any ranking, and what they then say of the candidate's.

Buckets of propensity, exposure shares, bootstrap weights, and the uplift per bucket and cluster by every estimator: FD
and OBS may be keys of the gate, raw, IPW and the randomised rows are shown beside them.

Shapes: R replicates, B buckets, K clusters, J journeys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from features.errors import ConfigError
from validation.buckets import Buckets, make_buckets, profile_basis
from validation.falsification import FalsificationConfig
from validation.gate import GateConfig, Key
from validation.judge_arrays import SHARDS, Exposure, JudgeArrays, exposure_of
from validation.keys import seat
from validation.shards import Floats, Replicates, draw_replicates
from validation.uplift import Uplift
from validation.uplift_fd import FdUplift, uplift_fd
from validation.uplift_obs import Obs, uplift_obs
from validation.uplift_randomised import uplift_randomised
from validation.uplift_raw import uplift_ipw, uplift_raw

KEYS = ("OBS", "FD")


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """How credits are judged."""

    gate: GateConfig = field(default_factory=GateConfig)
    """Thresholds of the decision."""
    falsification: FalsificationConfig = field(default_factory=FalsificationConfig)
    """Thresholds of the tests that may block it."""
    buckets: int = 5
    """Most propensity buckets; fewer where cells would be too small."""
    max_clusters: int = 64
    """Most clusters judged on their own; the rarest others are merged."""
    max_journeys: int = 2_000_000
    """About as many journeys are judged at most, of a sample of the judge's users: what the judges hold in memory."""
    replicates: int = 200
    """Bootstrap replicates behind every interval."""
    half_pairs: int = 10
    """Random pairs of halves that cross-fit the oracle's area."""
    seed: int = 0
    """Seed of the bootstrap."""

    def __post_init__(self) -> None:
        least = {"buckets": 1, "max_clusters": 2, "max_journeys": 1000, "replicates": 20, "half_pairs": 1, "seed": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ConfigError(f"judge.{name} = {getattr(self, name)} must be at least {smallest}")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the judges say of the judge's users, before any ranking."""

    data: JudgeArrays
    basis_JF: Floats
    buckets: Buckets
    exposure: Exposure
    replicates: Replicates
    obs: Obs
    fd: FdUplift | None
    shown: tuple[Uplift, ...]
    seed: int

    @property
    def judges(self) -> list[Uplift]:
        """Every measurement, keys first."""
        return [*([self.fd] if self.fd else []), self.obs.uplift, *self.shown]


def measure(data: JudgeArrays, config: JudgeConfig) -> Measured:
    """Buckets and the measurements of uplift; pure, so that worlds can be judged without files."""
    basis_JF = profile_basis(data.x_JP)
    buckets = make_buckets(
        basis_JF=basis_JF, y_J=data.y_J, shard_J=data.shard_J, dose_JK=data.dose_JK, most=config.buckets,
        min_treated=config.falsification.min_treated,
    )  # fmt: skip
    exposure = exposure_of(data, buckets)
    replicates = draw_replicates(SHARDS, config.replicates, half_pairs=config.half_pairs, seed=config.seed)
    audit = uplift_randomised(data, buckets, exposure, replicates, basis_JF)
    return Measured(
        data=data,
        basis_JF=basis_JF,
        buckets=buckets,
        exposure=exposure,
        replicates=replicates,
        obs=uplift_obs(data, buckets, exposure, replicates, basis_JF),
        fd=uplift_fd(data, buckets, exposure, replicates, basis_JF),
        shown=(
            *([audit] if audit else []),
            uplift_raw(data, buckets, replicates),
            uplift_ipw(data, buckets, replicates, basis_JF),
        ),
        seed=config.seed,
    )


def gate_keys(measured: Measured, scores: dict[str, Floats]) -> list[Key]:
    """Challenger ('candidate') against champion, or last touch where there is none, under OBS and FD."""
    return [key_of(uplift, scores, measured) for uplift in measured.judges if uplift.judge in KEYS]


def key_of(uplift: Uplift, scores: dict[str, Floats], measured: Measured) -> Key:
    judge = seat(uplift, measured.exposure, measured.replicates, seed=measured.seed)
    return judge.key(judge.areas(scores["candidate"]), judge.areas(rival_of(scores)))


def rival_of(scores: dict[str, Floats]) -> Floats:
    """The champion's ranking; last touch stands in where there is none."""
    return scores["champion"] if "champion" in scores else scores["last_touch"]
