"""The importer of KuaiRand, on files written here in their published format."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from features.errors import ConfigError
from features.importers.kuairand import import_kuairand
from features.reader import open_logs

KUAIRAND = os.environ.get("ALM_MTA_KUAIRAND")
LOG = [
    *("user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "is_like", "is_follow", "is_comment"),
    *("is_forward", "is_hate", "long_view", "play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time"),
    *("is_profile_enter", "is_rand", "tab"),
]
USER = [
    *("user_id", "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author"),
    *("follow_user_num", "follow_user_num_range", "fans_user_num", "fans_user_num_range", "friend_user_num"),
    *("friend_user_num_range", "register_days", "register_days_range", *(f"onehot_feat{i}" for i in range(18))),
]
VIDEO = [
    *("video_id", "author_id", "video_type", "upload_dt", "upload_type", "visible_status", "video_duration"),
    *("server_width", "server_height", "music_id", "music_type", "tag"),
]
NOON_MS = 1_649_419_200_000  # 2022-04-08 12:00 UTC
STANDARD, RANDOM = "log_standard_4_08_to_4_21_pure.csv", "log_random_4_22_to_5_08_pure.csv"
USERS, VIDEOS = "user_features_pure.csv", "video_features_basic_pure.csv"


def shown(user: int, video: int, minute: float, *, play: int = 0, duration: int = 10_000, **marks: int) -> str:
    """A line of a log; marks: the columns that are not 0."""
    cells = dict.fromkeys(LOG, 0) | {"user_id": user, "video_id": video, "date": 20220408, "hourmin": 2000, "tab": 1}
    cells |= {"time_ms": NOON_MS + round(60_000 * minute), "play_time_ms": play, "duration_ms": duration, **marks}
    return ",".join(str(cells[name]) for name in LOG)


STANDARD_ROWS = [
    shown(0, 0, 0, play=2_500, is_like=1),
    shown(0, 1, 1, play=30_000, is_comment=1, is_follow=1),  # watched three times over
    shown(0, 2, 2, play=500, duration=0),
    shown(1, 80, 0, play=10_000, is_forward=1, tab=4),
    shown(1, 80, 0, play=9_000, is_like=1, tab=4),  # the same exposure again
    shown(1, 0, 60 * 13, is_comment=1),  # the next day
]
RANDOM_ROWS = [shown(2, 1, 60 * 24 * 20, play=5_000, is_rand=1), shown(2, 2, 60 * 24 * 20 + 1, is_rand=1, is_comment=1)]


def lines(path: Path, header: list[str], rows: list[str]) -> None:
    path.write_text("".join(line + "\n" for line in [",".join(header), *rows]))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two logs, three users, 90 videos: tag 39 is the first of 45, tag 8 of 42, tag 7 of 2; one has none."""
    folder = tmp_path / "KuaiRand-Pure" / "data"
    folder.mkdir(parents=True)
    lines(folder / STANDARD, LOG, STANDARD_ROWS)
    lines(folder / RANDOM, LOG, RANDOM_ROWS)
    features = ",".join(["1.0", *["2"] * 11, "", *["0.0"] * 5])
    ranges = '{},"(0,10]",312,"[100,1k)",7,"[5,30)",799,730+'
    rows = [f"{u},full_active,0,{-124 if u else 1},1,{ranges.format(u + 5)},{features}" for u in (2, 0, 1)]
    lines(folder / USERS, USER, rows)
    tags = ['"39,68"', *['"39, 8"'] * 44, *["8"] * 42, "7", "7", ""]
    lines(
        folder / VIDEOS,
        VIDEO,
        [f"{i},{1000 + i},NORMAL,2022-04-{1 + i % 9:02},Web,0.0,9.0,1.0,1.0,5,4.0,{tag}" for i, tag in enumerate(tags)],
    )
    (folder / "video_features_statistic_pure.csv").write_text("of the whole period, never read")
    return folder


def read(logs: Path, table: str) -> pd.DataFrame:
    return duckdb.sql(f"FROM read_parquet('{logs}/{table}/**/*.parquet', hive_partitioning = false)").df()


def whole(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def at(minute: float) -> datetime:
    return datetime(2022, 4, 8, 12) + pd.Timedelta(minutes=minute)


def test_every_log_becomes_touchpoints_with_responses(source: Path, tmp_path: Path) -> None:
    summary = import_kuairand(source.parent, tmp_path / "logs")
    logs = open_logs(tmp_path / "logs")
    assert logs.rows == summary.written == {"touchpoints": 7, "uploads": 3, "items": 90, "users": 3}
    assert summary.read == {RANDOM: 2, STANDARD: 6}
    assert summary.remarks == {
        "rows of a user, video and millisecond that has one, counted once": 1,
        "rows without a watch ratio, since duration_ms is not above 0": 1,
    }
    assert logs.responses == ("watch_ratio", "liked", "shared", "followed")
    assert logs.has_randomised
    assert (logs.earliest_ts, logs.latest_ts) == (at(0), at(60 * 24 * 20 + 1))
    touches = read(tmp_path / "logs", "touchpoints")
    columns = ["user_id", "item_id", "author_id", "cluster_id", "ts", "liked", "shared", "followed"]
    assert touches[columns].to_numpy().tolist() == [
        [0, 0, 1000, 0, at(0), True, False, False],
        [0, 1, 1001, 0, at(1), False, False, True],
        [0, 2, 1002, 0, at(2), False, False, False],
        [1, 80, 1080, 1, at(0), True, True, False],
        [1, 0, 1000, 0, at(60 * 13), False, False, False],
        [2, 1, 1001, 0, at(60 * 24 * 20), False, False, False],
        [2, 2, 1002, 0, at(60 * 24 * 20 + 1), False, False, False],
    ]
    np.testing.assert_array_equal(touches["watch_ratio"], np.float32([0.25, 1, np.nan, 1, 0, 0.5, 0]))
    assert touches["exposure_source"].tolist() == ["tab 1"] * 3 + ["tab 4"] + ["tab 1"] * 3
    assert touches["randomised"].tolist() == [False] * 5 + [True] * 2
    days = sorted(p.name for p in (tmp_path / "logs" / "touchpoints").iterdir())
    assert days == ["dt=2022-04-08", "dt=2022-04-09", "dt=2022-04-28"]


@pytest.mark.parametrize(
    ("outcome", "response", "uploads"),
    [
        ("comments", "commented", [(0, at(1)), (1, at(60 * 13)), (2, at(60 * 24 * 20 + 1))]),
        ("follows", "followed", [(0, at(1))]),
        ("forwards", "shared", [(1, at(0))]),
        ("likes", "liked", [(0, at(0)), (1, at(0))]),
    ],
)
def test_the_outcome_is_uploads_and_no_response(
    outcome: str, response: str, uploads: list[tuple[int, datetime]], source: Path, tmp_path: Path
) -> None:
    import_kuairand(source, tmp_path / "logs", outcome=outcome)
    logs = open_logs(tmp_path / "logs")
    assert set(logs.responses) == {"watch_ratio", "liked", "shared", "followed", "commented"} - {response}
    assert not logs.has("touchpoints", response)
    rows = read(tmp_path / "logs", "uploads")
    assert list(rows[["user_id", "ts"]].itertuples(index=False, name=None)) == uploads
    assert rows["upload_id"].tolist() == list(range(len(uploads)))
    counts_of_it = {"follow_user_num", "friend_user_num"}
    held = counts_of_it & {p.name for p in logs.profile}
    assert held == (set() if outcome == "follows" else counts_of_it)


def test_an_outcome_that_never_is_or_means_nothing_is_refused(source: Path, tmp_path: Path) -> None:
    lines(source / STANDARD, LOG, STANDARD_ROWS[:1])
    with pytest.raises(ConfigError, match="no row of the logs has is_forward 1; choose another outcome than forwards"):
        import_kuairand(source, tmp_path / "logs", outcome="forwards")
    with pytest.raises(ConfigError, match="outcome is 'clicks'; there are comments, follows, forwards, likes"):
        import_kuairand(source, tmp_path / "logs", outcome="clicks")


def test_videos_and_users_are_tables_of_their_own(source: Path, tmp_path: Path) -> None:
    import_kuairand(source, tmp_path / "logs")
    items = read(tmp_path / "logs", "items")
    assert items["item_id"].tolist() == list(range(90))
    assert np.bincount(items["cluster_id"]).tolist() == [45, 42, 3]  # tags 39, 8, the rest
    assert items["published_ts"][0] == datetime(2022, 3, 31, 16)  # midnight of April 1 in China
    users = read(tmp_path / "logs", "users")
    assert users["user_id"].tolist() == [0, 1, 2]
    assert set(users["event_timestamp"]) == {pd.Timestamp("2022-04-08")}
    assert users["follow_user_num"].tolist() == [5, 6, 7]
    assert users["is_live_streamer"].tolist() == [True, False, False]
    assert users.loc[0, ["onehot_feat0", "onehot_feat11", "onehot_feat17"]].tolist() == ["1", "2", "0"]
    assert users["onehot_feat12"].isna().all()
    assert not [name for name in users if str(name).endswith("_range")]


def test_the_names_of_folders_are_no_data(source: Path, tmp_path: Path) -> None:
    """Neither above the published files nor above the logs."""
    import_kuairand(source, tmp_path / "plain")
    named = shutil.copytree(source, tmp_path / "user_id=5" / "video_id=7")
    import_kuairand(named, tmp_path / "user_id=5" / "item_id=7" / "logs")
    for table in ("touchpoints", "uploads", "items", "users"):
        here, there = read(tmp_path / "plain", table), read(tmp_path / "user_id=5" / "item_id=7" / "logs", table)
        pd.testing.assert_frame_equal(here, there)


def test_gz_and_plain_files_are_one(source: Path, tmp_path: Path) -> None:
    import_kuairand(source, tmp_path / "logs")
    for name in (STANDARD, VIDEOS):
        (source / f"{name}.gz").write_bytes(gzip.compress((source / name).read_bytes()))
        (source / name).unlink()
    import_kuairand(source, tmp_path / "again")
    for table in ("touchpoints", "uploads", "items", "users"):
        assert whole(tmp_path / "again" / table) == whole(tmp_path / "logs" / table)


def test_a_random_exposure_is_one_only_where_every_row_says_so(source: Path, tmp_path: Path) -> None:
    lines(source / STANDARD, LOG, [*STANDARD_ROWS, RANDOM_ROWS[0].replace(",1,1", ",0,1")])
    import_kuairand(source, tmp_path / "logs")
    assert read(tmp_path / "logs", "touchpoints")["randomised"].tolist() == [False] * 6 + [True]


def cell(line: int, column: int, value: str) -> Callable[[list[str]], list[str]]:
    def change(text: list[str]) -> list[str]:
        cells = text[line - 1].split(",")
        cells[column] = value
        return [*text[: line - 1], ",".join(cells), *text[line:]]

    return change


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        (STANDARD, cell(4, LOG.index("user_id"), "u7"), "line 4, column 'user_id': 'u7' is not an integer id"),
        (STANDARD, cell(4, LOG.index("time_ms"), "1649408076"), "line 4, column 'time_ms': '1649408076' is not a Unix"),
        (
            STANDARD,
            cell(4, LOG.index("time_ms"), "9649408076000"),
            "line 4, column 'time_ms': '9649408076000' is not a",
        ),
        (STANDARD, cell(7, LOG.index("is_like"), "3"), "line 7, column 'is_like': '3' is not 0 or 1"),
        (RANDOM, cell(3, LOG.index("is_rand"), ""), "line 3, column 'is_rand': '' is not 0 or 1"),
        (RANDOM, cell(2, LOG.index("play_time_ms"), "-1"), "line 2, column 'play_time_ms': '-1' is not a number of 0"),
        (RANDOM, cell(3, LOG.index("video_id"), "90"), "line 3, column 'video_id': '90' is not a video of video_"),
        (RANDOM, lambda text: [*text, "1,2"], "line 4: 2 cells instead of 19"),
        (RANDOM, cell(1, LOG.index("tab"), "page"), "no column tab in line 1"),
        (
            USERS,
            lambda text: [*text[:2], text[2].replace(",799,", ",many,"), text[3]],
            "line 3, column 'register_days': 'many' is not a number",
        ),
        (USERS, lambda text: [*text, text[1]], "line 5, column 'user_id': 2 is in line 2 already"),
        (USERS, lambda text: text[:1], "holds no rows"),
        (VIDEOS, cell(9, VIDEO.index("author_id"), ""), "line 9, column 'author_id': '' is not an integer id"),
        (VIDEOS, cell(50, VIDEO.index("upload_dt"), "soon"), "line 50, column 'upload_dt': 'soon' is not a date"),
        (VIDEOS, lambda text: [*text, text[-1]], "line 92, column 'video_id': 89 is in line 91 already"),
    ],
)
def test_a_wrong_file_is_refused_by_line_column_and_value(
    file: str, change: Callable[[list[str]], list[str]], named: str, source: Path, tmp_path: Path
) -> None:
    path = source / file
    path.write_text("".join(line + "\n" for line in change(path.read_text().splitlines())))
    with pytest.raises(ConfigError) as refused:
        import_kuairand(source, tmp_path / "logs")
    assert f"{path}: {named}" in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == ["KuaiRand-Pure"]


def test_a_folder_that_lacks_a_file_or_has_two_is_refused(source: Path, tmp_path: Path) -> None:
    shutil.copy(source / VIDEOS, source / "video_features_basic_1k.csv")
    with pytest.raises(ConfigError, match=r"needs one file video_features_basic_\*\.csv, has video_features_basic_1k"):
        import_kuairand(source, tmp_path / "logs")
    for log in (STANDARD, RANDOM):
        (source / log).unlink()
    with pytest.raises(ConfigError, match=r"needs a file log_\*\.csv, has none"):
        import_kuairand(source, tmp_path / "logs")
    with pytest.raises(ConfigError, match="is no folder"):
        import_kuairand(source / USERS, tmp_path / "logs")


KILLED = """
import os, signal, sys
from pathlib import Path
from features.importers import steps
from features.importers.kuairand import import_kuairand

def dying(function, calls):
    def once_more(*arguments, **named):
        calls.append(1)
        if len(calls) > int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return once_more

calls = []
steps.write_parquet = dying(steps.write_parquet, calls)  # items, users, three days, uploads
steps.atomic_dir = dying(steps.atomic_dir, calls)  # two logs
import_kuairand(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_an_import_killed_again_and_again_ends_alike(source: Path, tmp_path: Path) -> None:
    import_kuairand(source, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "logs"), "1"]
    for _ in range(7):  # one step each time: items, two logs, users, three days; then the uploads and the end
        killed = subprocess.run(command, capture_output=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert not (tmp_path / "logs").exists()
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    assert whole(tmp_path / "logs") == whole(tmp_path / "whole")


@pytest.mark.skipif(KUAIRAND is None, reason="needs the KuaiRand feature tables (ALM_MTA_KUAIRAND)")
def test_the_published_feature_tables_are_taken(source: Path, tmp_path: Path) -> None:
    for name in (USERS, VIDEOS):
        (source / name).unlink()
        shutil.copy(Path(str(KUAIRAND)) / name, source)
    import_kuairand(source, tmp_path / "logs")
    logs = open_logs(tmp_path / "logs")
    assert (logs.rows["users"], logs.rows["items"]) == (27_285, 7_583)
    assert np.bincount(read(tmp_path / "logs", "items")["cluster_id"]).min() >= 40
