"""The rules on arrays: small cases by hand, sorting and chunks as properties, and 1,000 logs against the reference."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from journeys_reference import DAY, HOUR, MINUTE, as_tables, assert_same, reference

from features import journeys, journeys_shard
from features.journey_files import TABLES
from features.journeys import JourneyConfig
from features.journeys_axis import Axis, Events, Timeline, chunks, key_order
from features.journeys_rules import DAY_US, Rules, on_axis, post_exposures

START = datetime(2024, 3, 1)
TICK = timedelta(microseconds=1)
USERS = (-(2**62), -7, 0, 1, 2, 5, 6, 2**31, 2**62, 2**63 - 1)
CONFIGS = (
    JourneyConfig(fit_share=0.4, selection_share=0.2),
    JourneyConfig(fit_share=0.2, selection_share=0.1, max_touches=1, lookback_days=1),
    JourneyConfig(
        fit_share=0.1, selection_share=0.1, max_touches=3, inactivity_minutes=60, horizon_hours=1, post_days=1
    ),
    JourneyConfig(fit_share=0.1, selection_share=0.1, control_start_days=2, control_end_days=0, post_days=2),
)


def adversarial_logs(rng: np.random.Generator, config: JourneyConfig) -> dict[str, Any]:
    """Up to 4 users whose events lie at the rules' limits after earlier ones, or 1 us beside them, with ties."""
    spans = [
        config.inactivity_minutes * MINUTE, config.horizon_hours * HOUR, config.lookback_days * DAY,
        config.control_start_days * DAY, config.control_end_days * DAY,
        config.horizon_hours * HOUR + config.post_days * DAY,
    ]  # fmt: skip
    steps = [timedelta(0), MINUTE, HOUR, *(span + beside for span in spans for beside in (-TICK, timedelta(0), TICK))]
    touches: set[tuple[int, int, datetime]] = set()
    uploads: list[tuple[int, int, datetime]] = []
    for user in rng.choice(USERS, size=rng.integers(1, 5), replace=False).tolist():
        moments, uploads_often = [START + timedelta(days=float(rng.integers(0, 40)))], rng.random() < 0.6
        for _ in range(rng.integers(1, 14)):
            near = steps[:6] if rng.random() < 0.6 else steps
            moments.append(moments[rng.integers(-min(len(moments), 3), 0)] + near[rng.integers(len(near))])
            if uploads_often and rng.random() < 0.4:
                uploads.append((user, int(rng.integers(1000)) * 100 + len(uploads), moments[-1]))
            else:
                touches.add((user, int(rng.integers(0, 4)), moments[-1]))
        touches.add((user, 9, moments[0]))
        if rng.random() < 0.4:
            uploads.append((user, 100_000 + len(uploads), moments[0] - near[rng.integers(len(near))]))
    latest = max(ts for _, _, ts in [*touches, *uploads])
    ahead = [*steps[:3], spans[1], spans[1] + TICK, spans[-1], spans[-1] - TICK]
    uploads.append((USERS[rng.integers(len(USERS))], 200_000, latest + ahead[rng.integers(len(ahead))]))
    order = rng.permutation(len(touches))
    return as_tables([sorted(touches)[row] for row in order], uploads)


def built_from(tables: dict[str, pa.Table], config: JourneyConfig, folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of one shard that holds them all."""
    moments = np.concatenate([table["ts"].to_numpy().view(np.int64) for table in tables.values()])
    logs: Any = type("Moments", (), {"earliest_ts": us(moments.min()), "latest_ts": us(moments.max())})
    journeys_shard.build_shard(
        **tables, rules=journeys._rules(logs, config), cuts=journeys._split_cuts(config), first_touch=0, folder=folder
    )
    return {name: pq.read_table(folder / f"{name}.parquet").to_pandas() for name in TABLES}


def us(moment: Any) -> datetime:
    return datetime(1970, 1, 1) + timedelta(microseconds=int(moment))


def compare(seeds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Compare a log a seed with the reference; in chunks of 1, of 5, or of all touches. What they held together."""
    held = {"journeys": 0, "labels": 0, "controls": 0, "exposures": 0}
    for seed in seeds:
        config = CONFIGS[seed % len(CONFIGS)]
        monkeypatch.setattr(journeys_shard, "ROWS", (1, 5, 131_072)[seed % 3])
        tables = adversarial_logs(np.random.default_rng(seed), config)
        expected = reference(tables, config)
        try:
            assert_same(built_from(tables, config, tmp_path), expected)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        held["journeys"] += len(expected["journeys"])
        held["labels"] += int(expected["journeys"]["label"].sum())
        held["controls"] += int((expected["journeys"]["n_control"] > 0).sum())
        held["exposures"] += len(expected["judge"])
    return held


def test_agrees_with_the_reference_at_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = compare(range(24), tmp_path, monkeypatch)
    assert min(held.values()) > 5, held


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 2000, 250))
def test_agrees_with_the_reference_on_a_thousand_logs(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = compare(range(first, first + 250), tmp_path, monkeypatch)
    assert min(held.values()) > 100, held


def test_moments_outside_the_logs_lie_between_the_users() -> None:
    """Two users with events at the logs' first and last moment, 0 and 9."""
    events = Events(user_N=np.array([3, 3, 8, 8]), ts_N=np.array([0, 9, 0, 9]), value_N=np.zeros(4))
    line = Timeline.of(Axis(start=0, end=9, apart=1), np.array([3, 8]), events)
    for rank, first in ((0, 0), (1, 2)):
        where = np.full(6, rank), np.array([-(10**9), -1, 0, 9, 10, 10**9])
        assert line.before(*where).tolist() == [first, first, first, first + 1, first + 2, first + 2]
        assert line.until(*where).tolist() == [first, first, first + 1, first + 2, first + 2, first + 2]


@pytest.mark.parametrize("span", [5, 2**40, 2**60])
def test_key_order_sorts_by_user_time_and_id(span: int) -> None:
    """Also where users and moments are too many for one integer (2^60)."""
    rng = np.random.default_rng(span)
    user, ids = rng.choice(USERS, 500), rng.integers(-50, 50, 500)
    ts = rng.integers(0, span, 500) + 10**15
    np.testing.assert_array_equal(
        np.stack([user, ts, ids])[:, key_order(user, ts, ids)],
        np.stack([user, ts, ids])[:, np.lexsort((ids, ts, user))],
    )
    assert (len(USERS) > Axis(start=int(ts.min()), end=int(ts.max()), apart=0).most_users) == (span == 2**60)


@pytest.mark.parametrize("span", [1, 7, 10**12])
def test_key_order_takes_ids_that_fill_the_axis(span: int) -> None:
    """The largest distance of users whose ids need no rank, one more, and users next to each other."""
    most = Axis(start=0, end=span - 1, apart=0).most_users
    for far in (0, most - 1, most):
        user = np.array([far, 0, far, 0, far]) - 5
        ts = np.array([span - 1, span - 1, 0, 0, 0]) + 10**15
        ids = np.array([3, 4, 5, 6, 2])
        found = key_order(user, ts, ids)
        np.testing.assert_array_equal(found, np.lexsort((ids, ts, user)))


def test_chunks_hold_whole_users() -> None:
    """Users of 2, 3, 9 and 1 rows: 5 rows a chunk, but the 9 stay together; and at most so many users."""
    bounds = np.array([0, 2, 5, 14, 15])
    assert list(chunks(bounds, 5)) == [(0, 2), (2, 3), (3, 4)]
    assert list(chunks(bounds, 100)) == [(0, 4)]
    assert list(chunks(bounds, 100, most=3)) == [(0, 3), (3, 4)]
    assert list(chunks(np.array([0]), 5)) == []


@pytest.mark.parametrize("pairs", [1, 3, 100])
def test_post_exposures_by_hand(pairs: int) -> None:
    """One user, horizon 1 d, post 2 d: after t = 0 in (1, 3] days clusters -5, 2**31-1 twice; after t = 3 d nothing."""
    days = np.array([0.0, 1.0, 1.5, 2.0, 3.0, 3.5])
    touches = Events(
        user_N=np.full(6, 4), ts_N=(days * DAY_US).astype(np.int64),
        value_N=np.array([0, 1, 2**31 - 1, -5, 2**31 - 1, 7], np.int32),
    )  # fmt: skip
    rules = Rules(
        inactivity=1, lookback=1, max_touches=1, horizon=DAY_US, control_start=2, control_end=1, post=2 * DAY_US,
        log_start=0, log_end=10 * DAY_US,
    )  # fmt: skip
    line, _ = on_axis(touches, touches[:0], rules.axis)
    ranks, t_obs = np.array([0, 0, 0]), np.array([0, 3 * DAY_US, DAY_US // 2])
    found = [row for part in post_exposures(line, ranks, t_obs, rules, pairs) for row in zip(*part, strict=True)]
    assert found == [(0, -5, 1), (0, 2**31 - 1, 2), (2, -5, 1), (2, 7, 1), (2, 2**31 - 1, 1)]
