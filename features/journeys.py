"""Journeys: what a user had seen when a session ended, and whether an upload followed.

A session is a run of a user's touchpoints without a gap above 30 min and without an upload inside; an upload
at the moment of a touchpoint counts as before it. One observation a session, at t_obs = its last touch:

    T     = the last L touches in [t_obs − lookback, t_obs], oldest first, as a range into the touch table
    label = 1 if the first upload after t_obs falls in (t_obs, t_obs + horizon] and no later t_obs precedes it
    n     = uploads in [t_obs − 35 d, t_obs − 7 d), the negative-control outcome

Observations whose horizon passes the end of the logs are censored, and dropped. Judge users also need the
post-horizon window (t_obs + horizon, t_obs + horizon + 7 d], whose exposures go to judge/ only.
Splits follow the user: fit, selection, judge by a salted MD5 of user_id, the same on every day and machine.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from features.contract import TOUCHPOINTS
from features.errors import BadLogsError, ConfigError
from features.files import atomic_dir, link, read_json, write_json
from features.journey_files import TABLES, part_file
from features.journeys_rules import DAY_US, SPLITS, Rules
from features.journeys_shard import SplitCuts, build_shard
from features.parts import MANIFEST, fingerprint_of, is_built, kept, missing, place_of_parts, seal
from features.reader import Logs
from features.shards import Columns, Shard, ShardConfig, cut, exchange, first_touches, read_shard, read_whole
from features.splits import SHARES, shares
from features.workers import over

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class JourneyConfig:
    """How journeys are cut."""

    inactivity_minutes: int = 30
    """A longer gap between touches ends a session."""
    lookback_days: int = 7
    """How far before t_obs touches still belong to the journey, inclusive."""
    max_touches: int = 64
    """L: at most this many touches a journey, the latest ones."""
    horizon_hours: int = 24
    """An upload within this time after t_obs, inclusive, is the journey's label."""
    control_start_days: int = 35
    """The negative control counts uploads from this long before t_obs, inclusive."""
    control_end_days: int = 7
    """The negative control ends this long before t_obs, exclusive."""
    post_days: int = 7
    """The judge's window of exposures after the horizon."""
    fit_share: float = 0.7
    """Share of users that models are fitted on."""
    selection_share: float = 0.1
    """Share of users for early stopping and sweeps; the rest are the judge's."""

    def __post_init__(self) -> None:
        for name in ("inactivity_minutes", "lookback_days", "max_touches", "horizon_hours", "post_days"):
            if getattr(self, name) < 1:
                raise ConfigError(f"journeys.{name} is {getattr(self, name)}; it must be at least 1")
        if self.horizon_hours * 60 < self.inactivity_minutes:
            raise ConfigError(
                f"journeys.horizon_hours {self.horizon_hours} is shorter than inactivity_minutes "
                f"{self.inactivity_minutes}: the end of a session would not be known within the horizon"
            )
        if not self.control_start_days > self.control_end_days >= 0:
            raise ConfigError(
                f"journeys: the control window from {self.control_start_days} to {self.control_end_days} "
                "days before t_obs is empty or after it; control_start_days must be the larger"
            )
        if not (self.fit_share > 0 and self.selection_share > 0 and self.fit_share + self.selection_share < 1):
            raise ConfigError(
                f"journeys: fit_share {self.fit_share} and selection_share {self.selection_share} must be "
                "positive and leave a share for the judge"
            )


def user_share(user_id: int) -> float:
    """Where a user falls in [0, 1): the first 32 bits of MD5(salt + decimal user_id) over 2^32."""
    return float(shares([user_id])[0]) / SHARES


def split_of(user_id: int, config: JourneyConfig) -> str:
    """'fit', 'selection' or 'judge': the split of a user."""
    return SPLITS[_split_cuts(config)(np.array([user_id]))[0]]


@dataclass(frozen=True, kw_only=True)
class Build:
    """Everything a shard is built from, wherever that happens."""

    logs: Logs
    config: JourneyConfig
    parts: Path
    """Folder of the shards' files, kept until the whole is there."""

    @property
    def exchanged(self) -> Path:
        return self.parts / "exchanged"

    def part(self, shard: Shard) -> Path:
        return self.parts / f"{shard.number:05d}"


def build_journeys(
    logs: Logs, config: JourneyConfig, out: Path, *, shards: ShardConfig | None = None, work: Path | None = None
) -> None:
    """Write touches/, journeys/, judge/ (Parquet in parts, sorted by key) and manifest.json into the folder `out`.

    work: where finished shards are kept until all are there, so that a killed build goes on (default: beside `out`).
    What is there already, of the same logs, configuration and code, is not built again.
    Raises BadLogsError when not one observation has its whole horizon inside the logs.
    """
    began, out, shards = time.monotonic(), Path(out), shards or ShardConfig()
    fingerprint = fingerprint_of(logs.fingerprint, asdict(config), libraries=(duckdb, np, pa))
    parts = place_of_parts(out, work, f"{fingerprint[:16]}-{shards.touches}")
    if is_built(out, fingerprint):
        logger.info("journeys: %s is up to date", out)
        return
    with kept(parts):
        build, pieces = Build(logs=logs, config=config, parts=parts), cut(logs, shards, parts)
        _build_shards(build, pieces, shards)
        with atomic_dir(out) as folder:
            manifest = _gather_shards(build, pieces, folder) | {"fingerprint": fingerprint}
            write_json(folder / MANIFEST, manifest)
    logger.info(
        "journeys: %s journeys with %s labels of %s users, %.1f s",
        *(f"{manifest[name]:,}" for name in ("journeys", "labels", "users")),
        time.monotonic() - began,
    )


def _build_shards(build: Build, shards: Sequence[Shard], config: ShardConfig) -> None:
    """Have the shards built that are missing."""
    numbers = missing([(build.part(shard), str(shard)) for shard in shards])
    if not numbers:
        return
    first = [0]
    if len(shards) > 1:
        if not build.exchanged.exists():
            exchange(build.logs, shards, _columns(build.logs), build.exchanged)
        first = first_touches(build.exchanged)
    tasks = [(shards[number], first[number]) for number in numbers]
    over(partial(_build_shard, build), tasks, jobs=config.jobs, ray_address=config.ray_address)


def _build_shard(build: Build, task: tuple[Shard, int]) -> None:
    """Write the shard's touches, journeys, judge and manifest.json. task: the shard, and its first touch's position."""
    shard, first_touch = task
    columns, rules, cuts = _columns(build.logs), _rules(build.logs, build.config), _split_cuts(build.config)
    with atomic_dir(build.part(shard)) as folder:
        if build.exchanged.exists():
            rows = read_shard(shard, build.exchanged, columns)
        else:
            rows = read_whole(build.logs, columns, build.parts)
        counts = build_shard(**rows, rules=rules, cuts=cuts, first_touch=first_touch, folder=folder)
        seal(folder, str(shard), counts=counts)


def _gather_shards(build: Build, shards: Sequence[Shard], folder: Path) -> dict[str, Any]:
    """The shards' tables side by side. Returns the manifest."""
    manifests = [read_json(build.part(shard) / MANIFEST) for shard in shards]
    counts = {name: sum(manifest["counts"][name] for manifest in manifests) for name in manifests[0]["counts"]}
    if not counts["uncensored"]:
        raise BadLogsError(
            "no session has its whole horizon inside the logs",
            table="touchpoints",
            column="ts",
            example=f"the logs end at {build.logs.latest_ts}, the horizon is {build.config.horizon_hours} h",
            remedy="Provide longer logs, or a shorter journeys.horizon_hours",
        )
    files = {}
    for table in TABLES:
        (folder / table).mkdir()
        for shard, manifest in zip(shards, manifests, strict=True):
            name, made = part_file(table, shard.number), f"{table}.parquet"
            link(build.part(shard) / made, folder / name)
            files[name] = manifest["files"][made]
    return {
        **{name: counts[name] for name in ("journeys", "labels", "touches", "users")},
        "censored": counts["observed"] - counts["uncensored"],
        "splits": {name: counts[name] for name in ("fit", "selection", "judge")},
        "judge_dropped_no_post_window": counts["uncensored"] - counts["journeys"],
        "responses": list(build.logs.responses),
        "has_randomised": build.logs.has_randomised,
        "latest_ts": build.logs.latest_ts.isoformat(),
        "logs_fingerprint": build.logs.fingerprint,
        "config": asdict(build.config),
        "files": files,
    }


def _columns(logs: Logs) -> Columns:
    """Of touches user_id, ts, item_id, author_id, cluster_id, then the optional columns that the logs hold."""
    order = {name: rank for rank, name in enumerate(("user_id", "ts", "item_id", "author_id", "cluster_id"))}
    held = [column.name for column in TOUCHPOINTS.columns if logs.has("touchpoints", column.name)]
    touches = sorted(held, key=lambda name: order.get(name, len(order)))
    return {"touchpoints": touches, "uploads": ("user_id", "ts", "upload_id")}


def _split_cuts(config: JourneyConfig) -> SplitCuts:
    fit = config.fit_share
    return SplitCuts(fit=round(fit * SHARES), selection=round((fit + config.selection_share) * SHARES))


def _rules(logs: Logs, config: JourneyConfig) -> Rules:
    minute = 60_000_000
    return Rules(
        inactivity=config.inactivity_minutes * minute,
        lookback=config.lookback_days * DAY_US,
        max_touches=config.max_touches,
        horizon=config.horizon_hours * 60 * minute,
        control_start=config.control_start_days * DAY_US,
        control_end=config.control_end_days * DAY_US,
        post=config.post_days * DAY_US,
        log_start=_microseconds(logs.earliest_ts),
        log_end=_microseconds(logs.latest_ts),
    )


def _microseconds(moment: datetime) -> int:
    """µs since 1970 of a moment in UTC without a zone."""
    return (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
