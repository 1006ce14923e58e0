"""Journeys: what a user had seen when a session ended, and whether an upload followed.

A session is a run of a user's touchpoints without a gap above 30 min and without an upload inside; an upload
at the moment of a touchpoint counts as before it. One observation a session, at t_obs = its last touch:

    T     = the last L touches in [t_obs − lookback, t_obs], oldest first, as a range into touches.parquet
    label = 1 if the first upload after t_obs falls in (t_obs, t_obs + horizon] and no later t_obs precedes it
    n     = uploads in [t_obs − 35 d, t_obs − 7 d), the negative-control outcome

Observations whose horizon passes the end of the logs are censored, and dropped. Judge users also need the
post-horizon window (t_obs + horizon, t_obs + horizon + 7 d], whose exposures go to judge.parquet only.
Splits follow the user: fit, selection, judge by a salted MD5 of user_id, the same on every day and machine.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb

from features import journeys_sql as sql
from features.contract import TOUCHPOINTS
from features.duck import fetch_one, quote, session, used, write_parquet
from features.errors import BadLogsError, ConfigError
from features.files import atomic_dir, write_json
from features.reader import Logs

logger = logging.getLogger(__name__)

SPLIT_SALT = "alm-mta split 1:"
_SHARES = 2**32


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
    digest = hashlib.md5(f"{SPLIT_SALT}{user_id}".encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) / _SHARES


def split_of(user_id: int, config: JourneyConfig) -> str:
    """'fit', 'selection' or 'judge': the split of a user."""
    fit_below, selection_below = _cuts(config)
    share = user_share(user_id) * _SHARES
    return "fit" if share < fit_below else "selection" if share < selection_below else "judge"


def build_journeys(logs: Logs, config: JourneyConfig, out: Path) -> None:
    """Write touches, journeys, judge (Parquet, sorted by key) and manifest.json into the folder `out`.

    Raises BadLogsError when not one observation has its whole horizon inside the logs.
    """
    began = time.monotonic()
    with atomic_dir(Path(out)) as folder, session(scratch=folder.parent) as connection:
        logs.register(connection)
        touches = folder / "touches.parquet"
        columns = ", ".join(quote(c.name) for c in _touch_columns(logs))
        write_parquet(connection, sql.TOUCHES.format(columns=columns), touches)
        logger.info("journeys: touches sorted, %.1f s", time.monotonic() - began)
        values = _parameters(logs, config)
        _build(connection, touches, values)
        write_parquet(connection, "SELECT * FROM journeys ORDER BY journey_id", folder / "journeys.parquet")
        post = sql.POST_EXPOSURES
        write_parquet(connection, post, folder / "judge.parquet", used(post, values))
        manifest = _manifest(connection, logs, config)
        write_json(folder / "manifest.json", manifest)
    logger.info(
        "journeys: %s journeys with %s labels of %s users, %.1f s",
        *(f"{manifest[name]:,}" for name in ("journeys", "labels", "users")),
        time.monotonic() - began,
    )


def _touch_columns(logs: Logs) -> list[Any]:
    """user_id, ts, item_id, author_id, cluster_id, then the optional columns that the logs hold."""
    order = {name: rank for rank, name in enumerate(("user_id", "ts", "item_id", "author_id", "cluster_id"))}
    held = [column for column in TOUCHPOINTS.columns if logs.has("touchpoints", column.name)]
    return sorted(held, key=lambda column: order.get(column.name, len(order)))


def _build(connection: duckdb.DuckDBPyConnection, touches: Path, values: Mapping[str, Any]) -> None:
    """Run the steps up to the table `journeys`."""
    connection.read_parquet(str(touches), file_row_number=True).project(
        "user_id, ts, cluster_id, file_row_number AS position"
    ).create_view("positioned")
    share = sql.SHARE.format(salt=SPLIT_SALT)
    steps = (sql.UPLOAD_TIMES, sql.OBSERVED, sql.RANGED, sql.CONTROLS, sql.JOURNEYS.format(share=share))
    for step in steps:
        connection.execute(step, used(step, values))
    if fetch_one(connection, "SELECT count(*) FROM ranged")[0] == 0:
        raise BadLogsError(
            "no session has its whole horizon inside the logs",
            table="touchpoints",
            column="ts",
            example=f"the logs end at {values['log_end']}, the horizon is {values['horizon']}",
            remedy="Provide longer logs, or a shorter journeys.horizon_hours",
        )


def _cuts(config: JourneyConfig) -> tuple[int, int]:
    fit = config.fit_share
    return round(fit * _SHARES), round((fit + config.selection_share) * _SHARES)


def _parameters(logs: Logs, config: JourneyConfig) -> dict[str, Any]:
    fit_below, selection_below = _cuts(config)
    return {
        "inactivity": timedelta(minutes=config.inactivity_minutes),
        "lookback": timedelta(days=config.lookback_days),
        "horizon": timedelta(hours=config.horizon_hours),
        "control_start": timedelta(days=config.control_start_days),
        "control_end": timedelta(days=config.control_end_days),
        "post": timedelta(days=config.post_days),
        "max_touches": config.max_touches,
        "log_start": logs.earliest_ts,
        "log_end": logs.latest_ts,
        "fit_below": fit_below,
        "selection_below": selection_below,
    }


def _manifest(connection: duckdb.DuckDBPyConnection, logs: Logs, config: JourneyConfig) -> dict[str, Any]:
    names = ("journeys", "labels", "users", "fit", "selection", "judge", "observed", "uncensored", "touches")
    counts = dict(zip(names, fetch_one(connection, sql.COUNTS), strict=True))
    return {
        **{name: counts[name] for name in ("journeys", "labels", "touches", "users")},
        "censored": counts["observed"] - counts["uncensored"],
        "splits": {name: counts[name] for name in ("fit", "selection", "judge")},
        "judge_dropped_no_post_window": counts["uncensored"] - counts["journeys"],
        "responses": list(logs.responses),
        "has_randomised": logs.has_randomised,
        "latest_ts": logs.latest_ts.isoformat(),
        "logs_fingerprint": logs.fingerprint,
        "config": asdict(config),
    }
