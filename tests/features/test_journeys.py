"""Journeys against hand-counted cases, an obvious pandas reference, and the rule that the future is unseen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from journeys_reference import as_tables, assert_same, reference

from features.errors import BadLogsError, ConfigError
from features.files import read_json, sha256_file
from features.journey_files import TABLES, part_file
from features.journeys import JourneyConfig, build_journeys, split_of, user_share
from features.reader import Logs, open_logs

NOW = datetime(2025, 1, 1, tzinfo=UTC)
START = datetime(2024, 3, 1)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
Write = Callable[..., Path]


def build(logs: Logs, out: Path, config: JourneyConfig | None = None) -> dict[str, pd.DataFrame]:
    build_journeys(logs, config or JourneyConfig(), out)
    return read(out)


def read(out: Path) -> dict[str, pd.DataFrame]:
    return {name: pq.read_table(out / name).to_pandas() for name in TABLES}


def user_in(split: str) -> int:
    return next(user for user in range(1, 1000) if split_of(user, JourneyConfig()) == split)


def test_sessions_labels_and_ranges_by_hand(write: Write, tmp_path: Path) -> None:
    """One fit user; the last touch, of another user 60 days on, ends the logs.

    t=0, 30 min                      one session (a gap of exactly 30 min does not split), no upload in 24 h
    t=2 d, +10, upload +15, +20      the upload splits: it labels the session ending at +10
                                     upload at +20 exactly comes before that touch: labels nothing (a session
                                     of t_obs < +20 after the first upload does not exist)
    t=9 d                            lookback of 7 d inclusive reaches back to t=2 d
    t=20 d, upload 24 h later        label at the very horizon
    t=30 d, upload 24 h + 1 us later no label
    """
    user, other = user_in("fit"), user_in("selection")
    t = {
        "a": [START, START + 30 * MINUTE],
        "b": [START + 2 * DAY, START + 2 * DAY + 10 * MINUTE],
        "c": [START + 2 * DAY + 20 * MINUTE],
        "d": [START + 9 * DAY],
        "e": [START + 20 * DAY],
        "f": [START + 30 * DAY],
    }
    touches = [(user, 10 + i, ts) for i, ts in enumerate(ts for session in t.values() for ts in session)]
    touches.append((other, 10, START + 60 * DAY))
    uploads = [
        (user, 1, START + 2 * DAY + 15 * MINUTE),
        (user, 2, START + 2 * DAY + 20 * MINUTE),
        (user, 3, START + 21 * DAY),
        (user, 4, START + 31 * DAY + timedelta(microseconds=1)),
    ]
    built = build(open_logs(write(as_tables(touches[::-1], uploads)), now=NOW), tmp_path / "journeys")
    journeys = built["journeys"]
    assert journeys["t_obs"].tolist() == [session[-1] for session in t.values()]
    assert journeys["label"].tolist() == [0, 1, 0, 0, 1, 0]
    assert journeys["upload_id"].fillna(-1).tolist() == [-1, 1, -1, -1, 3, -1]
    assert journeys["label_ts"][1] == START + 2 * DAY + 15 * MINUTE
    assert journeys["offset"].tolist() == [0, 0, 0, 2, 6, 7]
    assert journeys["length"].tolist() == [2, 4, 5, 4, 1, 1]
    # Uploads in [t_obs − 35 d, t_obs − 7 d): both at 2 d count from 9 d + 20 min on; that at 21 d from 28 d on.
    assert journeys["n_control"].tolist() == [0, 0, 0, 0, 2, 3]
    # The logs begin at START: t_obs − 7 d − START in whole days, at most 28.
    assert journeys["n_days_covered"].tolist() == [0, 0, 0, 2, 13, 23]
    manifest = read_json(tmp_path / "journeys" / "manifest.json")
    assert (manifest["journeys"], manifest["labels"], manifest["censored"]) == (6, 2, 1)


def test_an_upload_labels_only_the_latest_observation(write: Write, tmp_path: Path) -> None:
    user, other = user_in("fit"), user_in("selection")
    touches = [(user, 1, START), (user, 2, START + 2 * HOUR), (other, 1, START + 9 * DAY)]
    logs = open_logs(write(as_tables(touches, [(user, 5, START + 3 * HOUR)])), now=NOW)
    assert build(logs, tmp_path / "journeys")["journeys"]["label"].tolist() == [0, 1]


def test_judge_rows_need_the_window_after_the_horizon(write: Write, tmp_path: Path) -> None:
    """Logs end 8 d after START: the judge's session at START stays, the one 1 us later would not."""
    judge, fit = user_in("judge"), user_in("fit")
    late = START + timedelta(microseconds=1)
    second = next(u for u in range(judge + 1, 5000) if split_of(u, JourneyConfig()) == "judge")
    touches = [
        (judge, 1, START),
        (judge, 4, START + DAY),  # at the horizon: not after it
        (judge, 2, START + DAY + timedelta(microseconds=1)),
        (judge, 5, START + 4 * DAY),
        (judge, 3, START + 8 * DAY),  # the window's last moment
        (second, 1, late),
        (fit, 1, late),
    ]
    built = build(open_logs(write(as_tables(touches, [(fit, 5, START + 2 * DAY)])), now=NOW), tmp_path / "journeys")
    journeys = built["journeys"].set_index("user_id")
    assert sorted(journeys.index) == sorted([judge, fit])
    assert journeys.loc[judge, "t_obs"] == START
    # Clusters are item % 3: items 2 and 5 make two touches of cluster 2, item 3 one of cluster 0.
    expected = {"journey_id": [journeys.loc[judge, "journey_id"]] * 2, "cluster_id": [0, 2], "n_touches": [1, 2]}
    pd.testing.assert_frame_equal(built["judge"], pd.DataFrame(expected), check_dtype=False)
    assert read_json(tmp_path / "journeys" / "manifest.json")["judge_dropped_no_post_window"] == 3


def random_logs(seed: int) -> dict[str, Any]:
    """Up to 12 users over 60 days in bursts, with uploads at, between and after touches, and ties."""
    rng = np.random.default_rng(seed)
    touches: set[tuple[int, int, datetime]] = set()
    uploads: list[tuple[int, int, datetime]] = []
    for user in rng.choice(5000, size=12, replace=False):
        bursts = rng.uniform(0, 60, size=rng.integers(1, 9))
        for day in bursts:
            ts = START + timedelta(days=float(day))
            for _ in range(rng.integers(1, 8)):
                ts += MINUTE * int(rng.choice([0, 1, 10, 29, 30, 31, 300]))
                touches.add((int(user), int(rng.integers(0, 9)), ts))
                if rng.random() < 0.25:
                    delay = MINUTE * int(rng.choice([0, 1, 5, 1440, 1441, 20000]))
                    uploads.append((int(user), len(uploads), ts + delay))
    if not uploads:
        uploads.append((1, 0, START))
    return as_tables(sorted(touches, key=lambda row: row[::-1]), uploads)


@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_the_reference(seed: int, write: Write, tmp_path: Path) -> None:
    config = JourneyConfig(max_touches=4 if seed % 2 else 64, fit_share=0.4, selection_share=0.2)
    tables = random_logs(seed)
    built = build(open_logs(write(tables), now=NOW), tmp_path / "journeys", config)
    assert_same(built, reference(tables, config))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_after_t_obs_reaches_a_journey_but_its_label(seed: int, write: Write, tmp_path: Path) -> None:
    """Shift every event after some t_obs: the journeys up to it keep their touches, controls and ranges."""
    tables = random_logs(seed)
    before = build(open_logs(write(tables, "before"), now=NOW), tmp_path / "a")
    t_obs = before["journeys"]["t_obs"].sort_values().iloc[len(before["journeys"]) // 2]
    shifted = {}
    for name, table in tables.items():
        frame = table.to_pandas()
        frame.loc[frame["ts"] > t_obs, "ts"] += 3 * HOUR
        shifted[name] = pa.Table.from_pandas(frame, preserve_index=False).cast(table.schema)
    after = build(open_logs(write(shifted, "after"), now=NOW), tmp_path / "b")

    def known(built: dict[str, pd.DataFrame]) -> dict[Any, list[Any]]:
        touches = built["touches"].to_numpy().tolist()
        return {
            (j["user_id"], j["t_obs"]): [
                j["n_control"],
                j["n_days_covered"],
                j["split"],
                touches[j["offset"] : j["offset"] + j["length"]],
            ]
            for j in built["journeys"].to_dict("records")
            if j["t_obs"] <= t_obs
        }

    seen, seen_after = known(before), known(after)
    assert len(seen) > 5
    assert {key: seen_after[key] for key in seen} == seen


def test_same_bytes_whatever_the_order_of_the_logs(write: Write, tmp_path: Path) -> None:
    tables = random_logs(7)
    shuffled = dict(tables)
    order = np.random.default_rng(0).permutation(tables["touchpoints"].num_rows)
    shuffled["touchpoints"] = tables["touchpoints"].take(pa.array(order))
    for name, content in (("a", tables), ("b", shuffled)):
        build(open_logs(write(content, f"logs-{name}"), now=NOW), tmp_path / name)
    for file in (part_file(table, 0) for table in TABLES):
        assert sha256_file(tmp_path / "a" / file) == sha256_file(tmp_path / "b" / file)


def test_touches_keep_the_optional_columns(tables: dict[str, pa.Table], write: Write, tmp_path: Path) -> None:
    touches = tables["touchpoints"].append_column("randomised", pa.array([True, None, False, False, False]))
    logs = open_logs(write({**tables, "touchpoints": touches}), now=NOW)
    built = build(logs, tmp_path / "journeys")
    names = ["user_id", "ts", "item_id", "author_id", "cluster_id", "watch_ratio", "liked", "randomised"]
    assert list(built["touches"].columns) == names
    manifest = read_json(tmp_path / "journeys" / "manifest.json")
    assert manifest["has_randomised"] is True
    assert manifest["responses"] == ["watch_ratio", "liked"]
    assert manifest["logs_fingerprint"] == logs.fingerprint
    assert manifest["config"] == asdict(JourneyConfig())


def test_user_share_is_fixed_for_ever_and_uniform() -> None:
    """The first value by hand: `printf 'alm-mta split 1:42' | md5sum` begins with the eight digits."""
    assert user_share(42) == 0xEBA1BA0A / 2**32
    shares = np.sort([user_share(user) for user in range(-1000, 1000)])
    assert np.abs(shares - (np.arange(2000) + 0.5) / 2000).max() < 1.63 / np.sqrt(2000)  # Kolmogorov, 1%


def test_logs_shorter_than_the_horizon_are_refused(write: Write, tmp_path: Path) -> None:
    logs = open_logs(write(as_tables([(1, 1, START)], [(1, 1, START + HOUR)])), now=NOW)
    with pytest.raises(BadLogsError, match="no session has its whole horizon inside the logs"):
        build(logs, tmp_path / "journeys")
    assert not (tmp_path / "journeys").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_touches": 0}, "journeys.max_touches is 0"),
        ({"inactivity_minutes": 120, "horizon_hours": 1}, "shorter than inactivity_minutes 120"),
        ({"control_start_days": 7}, "control window from 7 to 7"),
        ({"fit_share": 0.9}, "leave a share for the judge"),
    ],
)
def test_config_refuses_what_cannot_mean_anything(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JourneyConfig(**change)
