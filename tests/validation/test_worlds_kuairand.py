"""Worlds over a real catalogue: KuaiRand's format, written here, and its files where they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import ConfigError
from features.importers.kuairand_tables import CATEGORIES, COUNTS, FLAGS
from features.reader import open_logs
from pipelines.cli import main
from validation.worlds import WORLDS, read_kuairand, simulate

KUAIRAND = os.environ.get("ALM_MTA_KUAIRAND")
USERS, VIDEOS = 60, 200


def write_files(folder: Path) -> tuple[Path, Path]:
    """60 users, 200 videos: tags 3 and 39 are common, 7 is rare, ten videos have none, some have two."""
    rng = np.random.default_rng(0)
    counts = {name: rng.poisson(20, USERS) for name in COUNTS}
    flags = {"is_video_author": rng.integers(0, 2, USERS), "is_live_streamer": rng.choice([-124, 1], USERS)}
    groups = {name: rng.choice(["a", "b"], USERS) for name in CATEGORIES}
    users = pd.DataFrame({"user_id": np.arange(USERS), "unused": "", **counts, **flags, **groups})
    tags = np.repeat(["3", "39,68", "7", ""], [90, 80, 20, 10])
    videos = pd.DataFrame(
        {"video_id": 1_000 + np.arange(VIDEOS), "author_id": rng.integers(0, 50, VIDEOS), "tag": tags}
    )
    users.to_csv(folder / "users.csv", index=False)
    videos.to_csv(folder / "videos.csv", index=False)
    return folder / "users.csv", folder / "videos.csv"


def test_profiles_authors_and_clusters_are_the_files_own(tmp_path: Path) -> None:
    users_csv, videos_csv = write_files(tmp_path)
    catalogue = read_kuairand(users_csv, videos_csv)
    assert np.bincount(catalogue.cluster_I).tolist() == [90, 80, 30]  # tags 3, 39, the rest
    np.testing.assert_array_equal(catalogue.item_I, 1_000 + np.arange(VIDEOS))
    np.testing.assert_array_equal(catalogue.author_I, pd.read_csv(videos_csv)["author_id"])
    assert catalogue.profiles.column_names == [*COUNTS, *FLAGS, *CATEGORIES]
    followers = np.log1p(pd.read_csv(users_csv)["fans_user_num"])
    standard = (followers - followers.mean()) / followers.std(ddof=0)
    np.testing.assert_allclose(catalogue.profiles["fans_user_num"].to_numpy(), standard, atol=1e-5)
    assert catalogue.x_RP.shape == (USERS, 4)
    np.testing.assert_allclose(np.cov(catalogue.x_RP.T, ddof=0), np.eye(4), atol=0.1)


def test_a_world_lives_in_the_catalogue(tmp_path: Path) -> None:
    users_csv, videos_csv = write_files(tmp_path)
    simulate(WORLDS["variable-length"], 100, 3, tmp_path / "logs", read_kuairand(users_csv, videos_csv))
    logs = open_logs(tmp_path / "logs")
    assert {p.name for p in logs.profile} == {*COUNTS, *FLAGS, *CATEGORIES}
    videos = pd.read_csv(videos_csv).set_index("video_id")
    for table in ("items", "touchpoints"):
        rows = pd.read_parquet(tmp_path / "logs" / table)
        assert rows["item_id"].isin(videos.index).all()
        np.testing.assert_array_equal(rows["author_id"], videos.loc[rows["item_id"], "author_id"])
    truth = pd.read_parquet(tmp_path / "logs" / "truth" / "touchpoints")
    np.testing.assert_array_equal(truth["item_id"], rows["item_id"])


def test_profiles_drive_the_truth(tmp_path: Path) -> None:
    """Users drawn from the same row have the same P(Y=1|do nothing): it is a function of x."""
    users_csv, videos_csv = write_files(tmp_path)
    simulate(WORLDS["logit"], 300, 3, tmp_path / "logs", read_kuairand(users_csv, videos_csv))
    profiles = pd.read_parquet(tmp_path / "logs" / "users").set_index("user_id")
    none = pd.read_parquet(tmp_path / "logs" / "truth" / "journeys").groupby("user_id")["p_do_none"].first()
    spread = none.loc[profiles.index].groupby([profiles[name] for name in (*COUNTS, *FLAGS)]).std()
    assert spread.max() < 1e-9 < none.std()


def replaced(line: int, old: str, new: str) -> Callable[[list[str]], list[str]]:
    """Lines count from 1, as editors do."""
    return lambda lines: [text.replace(old, new, 1) if i == line else text for i, text in enumerate(lines, 1)]


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("users.csv", replaced(1, "fans_user_num", "fans"), "no column fans_user_num"),
        ("users.csv", lambda lines: [*lines[:7], "1,2", *lines[7:]], "line 8: 2 cells instead of 12"),
        ("users.csv", replaced(5, "3,,", "3,,-"), "line 5, column 'follow_user_num': '-"),
        ("users.csv", lambda lines: lines[:1], "holds no rows"),
        ("users.csv", lambda lines: lines[:2], "none of .* varies"),
        ("users.csv", lambda lines: [], "Empty CSV file"),  # noqa: ARG005
        ("videos.csv", replaced(4, "1002,", "one,"), "line 4, column 'video_id': 'one'"),
        ("videos.csv", replaced(4, "1002,", "1000,"), "line 4, column 'video_id': 1000 is in line 2 already"),
        ("videos.csv", lambda lines: lines[:92], "column 'tag': 1 tags of 40 videos or more"),
    ],
)
def test_wrong_files_are_refused_by_name(
    file: str, change: Callable[[list[str]], list[str]], named: str, tmp_path: Path
) -> None:
    write_files(tmp_path)
    path = tmp_path / file
    path.write_text("".join(line + "\n" for line in change(path.read_text().splitlines())))
    with pytest.raises(ConfigError, match=rf"{file}: {named}"):
        read_kuairand(tmp_path / "users.csv", tmp_path / "videos.csv")


def test_the_command_takes_both_files_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users_csv, videos_csv = write_files(tmp_path)
    command = ["simulate", "--world", "saturating", "--users", "50", "--out", str(tmp_path / "logs")]
    assert main([*command, "--users-csv", str(users_csv)]) == 2
    assert "needs both files" in capsys.readouterr().err
    assert main([*command, "--users-csv", str(users_csv), "--videos-csv", str(tmp_path / "absent.csv")]) == 2
    assert "absent.csv" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()
    assert main([*command, "--users-csv", str(users_csv), "--videos-csv", str(videos_csv)]) == 0
    assert open_logs(tmp_path / "logs").rows["items"] == VIDEOS


@pytest.mark.skipif(KUAIRAND is None, reason="needs the KuaiRand feature tables (ALM_MTA_KUAIRAND)")
def test_the_published_files_make_a_world(tmp_path: Path) -> None:
    folder = Path(str(KUAIRAND))
    catalogue = read_kuairand(folder / "user_features_pure.csv", folder / "video_features_basic_pure.csv")
    assert (catalogue.profiles.num_rows, len(catalogue.item_I)) == (27_285, 7_583)
    assert np.bincount(catalogue.cluster_I).min() >= 40
    simulate(WORLDS["logit"], 500, 3, tmp_path / "logs", catalogue)
    assert open_logs(tmp_path / "logs").rows["items"] == 7_583
