"""Checkpoints on real logs and journeys: what they refuse, what they warn of, what they write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from features.errors import ConfigError, ValidationFailed
from features.journey_files import TRAINING_TABLE, part_file, part_files
from features.journeys import JourneyConfig, build_journeys
from features.reader import open_logs
from validation.data_docs import offline_page
from validation.data_quality import QualityLimits, Report, validate_logs, validate_training_table
from validation.gx_duckdb import Finding

USERS, DAYS, CLUSTERS = 60, 40, 5


def write_logs(root: Path) -> Path:
    """60 users who touch something on most of 40 days and upload now and then, split over two files."""
    rng = np.random.default_rng(3)
    n = USERS * DAYS
    ts = np.datetime64("2024-01-01", "us") + rng.integers(0, DAYS * 86_400_000_000, n).astype("timedelta64[us]")
    item_id = rng.integers(0, 300, n)
    touches = pd.DataFrame(
        {
            "user_id": rng.integers(0, USERS, n),
            "item_id": item_id,
            "author_id": item_id % 30,
            "cluster_id": (item_id % CLUSTERS).astype("int32"),
            "ts": ts,
            "watch_ratio": rng.random(n).astype("float32"),
            "liked": rng.random(n) < 0.2,
        }
    )
    m = USERS * 12
    uploads = pd.DataFrame(
        {
            "user_id": rng.integers(0, USERS, m),
            "upload_id": np.arange(m),
            "ts": np.datetime64("2024-01-01", "us")
            + rng.integers(0, DAYS * 86_400_000_000, m).astype("timedelta64[us]"),
            "embedding": list(rng.normal(size=(m, 3)).astype("float32")),
        }
    )
    users = pd.DataFrame(
        {
            "user_id": np.arange(USERS // 3),
            "event_timestamp": np.datetime64("2024-01-01", "us"),
            "age": rng.normal(30, 5, USERS // 3),
            "city": None,
        }
    ).astype({"city": "string"})
    for name, table in {"touchpoints": touches, "uploads": uploads, "users": users}.items():
        (root / name).mkdir(parents=True)
        half = len(table) // 2
        table.iloc[:half].to_parquet(root / name / "part-0.parquet", index=False)
        table.iloc[half:].to_parquet(root / name / "part-1.parquet", index=False)
    return root


@pytest.fixture(scope="module")
def logs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def stages(logs_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """journeys/ as the pipeline writes them, and data/training_table/ with one profile column."""
    root = tmp_path_factory.mktemp("stages")
    build_journeys(open_logs(logs_root), JourneyConfig(), root / "journeys")
    (root / "data" / TRAINING_TABLE).mkdir(parents=True)
    rewrite_training_table(root, root, "*, CASE WHEN user_id < 50 THEN user_id % 7 END AS profile__age")
    return root


def rewrite_training_table(source: Path, target: Path, select: str, where: str = "TRUE") -> None:
    table = source / "data" / part_file(TRAINING_TABLE, 0)
    (origin,) = [table] if table.is_file() else part_files(source / "journeys", "journeys")
    query = f"SELECT {select} FROM read_parquet('{origin}') WHERE {where} ORDER BY journey_id"
    with duckdb.connect() as connection:
        connection.sql(query).write_parquet(str(target / "data" / "new.parquet"))
    (target / "data" / "new.parquet").replace(target / "data" / part_file(TRAINING_TABLE, 0))


def altered(stages: Path, folder: Path, select: str, where: str = "TRUE") -> Path:
    """A copy of `stages` whose training table went through a SELECT."""
    shutil.copytree(stages, folder, dirs_exist_ok=True)
    rewrite_training_table(stages, folder, select, where)
    return folder


def validate(folder: Path, **arguments: Any) -> Report:
    return validate_training_table(folder / "journeys", folder / "data", folder / "quality", **arguments)


def warnings_of(report: Report) -> dict[str, tuple[str, ...]]:
    return {suite.suite: suite.warnings for suite in report.suites if suite.warnings}


def test_logs_within_the_contract_pass_with_warnings(logs_root: Path, tmp_path: Path) -> None:
    report = validate_logs(open_logs(logs_root), tmp_path)
    assert [suite.suite for suite in report.suites] == ["touchpoints", "uploads", "users", "logs_facts"]
    empty_profile = "users.city: city is null in at most 50% of rows; observed 20 of 20 rows"
    assert warnings_of(report) == {"users": (empty_profile,)}
    stored = json.loads((tmp_path / "data_quality.json").read_text())
    assert sum(suite["checks"] for suite in stored["suites"]) > 30
    page = (tmp_path / "data_docs" / "index.html").read_text()
    assert all(suite.suite in page for suite in report.suites)


def test_unusual_logs_warn(logs_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "logs"
    shutil.copytree(logs_root, root)
    for file in (root / "touchpoints").iterdir():
        table = pd.read_parquet(file).assign(cluster_id=np.int32(4), liked=False)
        table.loc[table.index[::3], "watch_ratio"] = np.nan
        table[table.ts > "2024-01-20"].to_parquet(file, index=False)
    limits = QualityLimits(response_null_share=0.2, top_user_share=0.01)
    found = warnings_of(validate_logs(open_logs(root), tmp_path / "out", limits=limits))
    for warning, text in zip(found["logs_facts"], ("clusters: ", "liked_varies: ", "watch_ratio_null"), strict=True):
        assert text in warning
    for warning, text in zip(found["touchpoints"], ("no cluster has more than 50%", "no user has more"), strict=True):
        assert text in warning


def five_files(root: Path, logs_root: Path) -> Path:
    """The logs with their touchpoints in five files."""
    shutil.copytree(logs_root, root)
    table = pd.concat(pd.read_parquet(file) for file in sorted((root / "touchpoints").iterdir()))
    for number, rows in enumerate(np.array_split(np.arange(len(table)), 5)):
        table.iloc[rows].to_parquet(root / "touchpoints" / f"part-{number}.parquet", index=False)
    return root


def test_a_corruption_in_the_first_of_five_files_is_found(logs_root: Path, tmp_path: Path) -> None:
    """The contract's reader has passed the files before: the checkpoint finds it by itself."""
    root = five_files(tmp_path / "logs", logs_root)
    logs = open_logs(root)
    first = root / "touchpoints" / "part-0.parquet"
    table = pd.read_parquet(first)
    table.loc[3, "watch_ratio"] = 7
    table.to_parquet(first, index=False)
    with pytest.raises(ValidationFailed, match=r"touchpoints\.watch_ratio: .* observed 1 of 2,400 rows, for example 7"):
        validate_logs(logs, tmp_path / "out")


def test_a_touchpoint_repeated_in_another_file_is_found(logs_root: Path, tmp_path: Path) -> None:
    root = five_files(tmp_path / "logs", logs_root)
    logs = open_logs(root)
    files = [root / "touchpoints" / f"part-{number}.parquet" for number in (0, 4)]
    first, last = map(pd.read_parquet, files)
    pd.concat([last, first.head(2)]).to_parquet(files[1], index=False)
    key = r"no two touchpoints share their \(user_id, item_id, ts\)"
    with pytest.raises(ValidationFailed, match=rf"logs_facts\.touchpoints_repeated: {key}; observed 2"):
        validate_logs(logs, tmp_path / "out")


def test_empty_logs_fail(logs_root: Path, tmp_path: Path) -> None:
    root = five_files(tmp_path / "logs", logs_root)
    logs = open_logs(root)
    for file in (root / "touchpoints").iterdir():
        pd.read_parquet(file).head(0).to_parquet(file, index=False)
    with pytest.raises(ValidationFailed, match=r"touchpoints\.\*: the table has rows; observed 0"):
        validate_logs(logs, tmp_path / "out")


def test_drift_against_the_champion_warns(stages: Path, tmp_path: Path) -> None:
    """The champion was fitted when nearly all was cluster 0, and when likes were as they are."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    touches = pd.read_parquet(stages / "journeys" / "touches")
    liked = int(touches.liked.sum())
    snapshot = {
        "clusters": {"cluster": [1_000, 1, 1, 1, 1, 0, 0]},
        "responses": {"liked": [len(touches) - liked, liked, 0]},
        "edges": {"liked": [0.0]},
    }
    (bundle / "manifest.json").write_text(json.dumps({"schema": {"clusters": list(range(CLUSTERS))}}))
    (bundle / "snapshot.json").write_text(json.dumps(snapshot))
    (warning,) = warnings_of(validate(altered(stages, tmp_path / "run", "*"), champion=bundle))["touches"]
    assert warning.startswith("touches.cluster_id: cluster_id is distributed as when the champion was fitted")


def test_nobody_uploads_after_consuming(logs_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "logs"
    shutil.copytree(logs_root, root)
    for file in (root / "uploads").iterdir():
        table = pd.read_parquet(file)
        table.assign(user_id=table.user_id + 10_000).to_parquet(file, index=False)
    with pytest.raises(ValidationFailed, match=r"logs_facts\.uploaders_with_touches: .*; observed 0"):
        validate_logs(open_logs(root), tmp_path / "out")


def test_a_sound_training_table_passes(stages: Path) -> None:
    report = validate(stages)
    assert [suite.suite for suite in report.suites] == [
        "training_table", "touches", "training_facts", "cluster_overlap", "judge_exposures",
    ]  # fmt: skip
    assert warnings_of(report) == {}
    assert report.as_dicts()[0] == {"suite": "training_table", "success": True, "warnings": []}


def test_the_docs_are_the_same_bytes_again(stages: Path, tmp_path: Path) -> None:
    def pages(folder: Path) -> dict[str, bytes]:
        validate_training_table(stages / "journeys", stages / "data", folder)
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    assert pages(tmp_path / "a") == pages(tmp_path / "b")


@pytest.mark.parametrize(
    ("select", "where", "expected"),
    [
        pytest.param(
            "* REPLACE (CASE WHEN journey_id = 5 THEN 2 ELSE label END AS label, length + 70 AS length, "
            "-1 - n_control AS n_control, label_ts + INTERVAL 3 DAY AS label_ts, 'test' AS split)",
            "TRUE",
            (
                "training_table.label: label is 0 or 1; observed 1 of 2,207 rows, for example 2",
                "training_table.length: a journey has 1 to 64 touches; observed 2,207 of 2,207 rows, for example 7",
                "training_table.n_control: n_control counts uploads; observed 2,207 of 2,207 rows, for example -",
                "training_table.hours_to_upload: the upload comes within 24 h after t_obs; observed ",
                "training_table.split: split is fit, selection or judge; observed 2,207 of 2,207 rows, for example t",
                "training_facts.touches_out_of_range: ",
            ),
            id="values outside their range",
        ),
        pytest.param(
            "* EXCLUDE (n_days_covered) REPLACE (0::INT AS length, 'nan'::FLOAT AS n_control, "
            "NULL::TIMESTAMP AS label_ts, 7 AS journey_id, 1 AS user_id, TIMESTAMP '2024-01-09' AS t_obs)",
            "TRUE",
            (
                "training_table.length: a journey has 1 to 64 touches; observed 2,207 of 2,207 rows, for example 0",
                "training_table.n_control: n_control is never null; observed 2,207 of 2,207 rows",
                "training_table.label_has_its_upload: label is 1 exactly where an upload is recorded; observed ",
                "training_facts.ids_repeated: no two journeys share their (journey_id); observed 2,206",
                "training_facts.moments_repeated: no two journeys share their (user_id, t_obs); observed 2,206",
                "training_table.n_days_covered: n_days_covered counts days of 28; observed an error: ",
                "training_facts.users_in_two_splits: no user is in two splits; observed 1",
                "training_facts.touches_after_t_obs: ",
            ),
            id="nulls, duplicates and a missing column",
        ),
        pytest.param("*", "FALSE", ("training_table.*: the table has rows; observed 0",), id="no rows"),
        pytest.param(
            "*",
            "split <> 'judge' AND (split <> 'fit' OR label = 0)",
            (
                "training_facts.judge_rows: the judge split has journeys; observed 0",
                "training_facts.judge_uploads: the judge split has uploads; observed 0",
                "training_facts.fit_uploads: the fit split has uploads; observed 0",
                "training_facts.rows_changed_by_retrieval: every journey came back once, unchanged; observed ",
            ),
            id="a split without journeys, another without uploads",
        ),
    ],
)
def test_a_broken_training_table_is_refused(
    select: str, where: str, expected: tuple[str, ...], stages: Path, tmp_path: Path
) -> None:
    folder = altered(stages, tmp_path, select, where)
    with pytest.raises(ValidationFailed, match=r"training_\w+\..+: .+; observed .+ Every finding: .*index\.html"):
        validate(folder)
    assert (folder / "quality" / "data_docs" / "index.html").is_file()
    stored = json.loads((folder / "quality" / "data_quality.json").read_text())
    found = [Finding(**finding) for suite in stored["suites"] for finding in suite["findings"]]
    critical = [str(finding) for finding in found if finding.severity == "critical"]
    for text in expected:
        assert any(line.startswith(text) for line in critical), (text, critical)


def test_an_unusual_training_table_warns(stages: Path, tmp_path: Path) -> None:
    folder = altered(stages, tmp_path, "* REPLACE (NULL::BIGINT AS profile__age)")
    exposures = folder / "journeys" / part_file("judge", 0)
    exposures.unlink()
    pd.DataFrame({"journey_id": [], "cluster_id": [], "n_touches": []}, dtype="int64").to_parquet(exposures)
    limits = QualityLimits(label_rate_high=0.001, top_cluster_share=0.1, overlap_share=1, recent_label_share=1)
    found = warnings_of(validate(folder, limits=limits))
    assert len(found["training_facts"]) == 2
    for name in ("label_rate: ", "profile_null_share: "):
        assert any(name in warning for warning in found["training_facts"]), name
    (top,) = found["touches"]
    assert top.startswith("touches.cluster_id: no cluster has more than 10% of the touches; observed 0.2")
    (warning,) = found["judge_exposures"]
    assert "there are exposures after the horizon" in warning


def test_limits_are_shares() -> None:
    with pytest.raises(ConfigError, match="top_user_share is a share between 0 and 1, not 2"):
        QualityLimits(top_user_share=2)


def test_no_page_asks_the_network(stages: Path) -> None:
    validate(stages)
    pages = list((stages / "quality" / "data_docs").rglob("*.html"))
    assert len(pages) == 11
    for page in pages:
        html = page.read_text()
        assert 'src="http' not in html
        assert "newsletter" not in html
        for link in html.split('href="')[1:]:
            target = link.split('"')[0]
            if target.endswith((".css", ".ico")):
                assert (page.parent / target).resolve().is_file(), target


def test_a_link_that_is_not_vendored_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"https://cdn\.example/new@2\.js, which is not vendored"):
        offline_page('<script src="https://cdn.example/new@2.js"></script>', ".")
    with pytest.raises(ValueError, match="would ask the network"):
        offline_page("<style>body { background: url('https://cdn.example/a.png') }</style>", ".")
