"""`alm-mta import`: what it says, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.reader import open_logs
from pipelines.cli import main

HEADER = "timestamp\tuid\tcampaign\tconversion\tconversion_timestamp\tconversion_id\tclick\n"
ROWS = "0\t1\t5\t0\t-1\t-1\t0\n9\t1\t5\t1\t60\t3\t1\n9\t1\t5\t0\t-1\t-1\t0\n5000\t2\t6\t0\t-1\t-1\t0\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "criteo.tsv"
    path.write_text(HEADER + ROWS)
    return path


@pytest.mark.parametrize("dataset", ["criteo", "kuairand"])
def test_every_data_set_has_help(dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["import", dataset, "--help"])
    assert ended.value.code == 0
    assert f"alm-mta import {dataset}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["import"])
    assert f"  {dataset} " in capsys.readouterr().out


def test_an_import_tells_rows_in_and_out_and_why(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", "criteo", str(source), "--out", str(tmp_path / "logs")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in said[:4]] == [
        "4  read from criteo.tsv",
        "3  written to touchpoints/",
        "1  written to uploads/",
        "1  impressions of a user, campaign and second that has one, counted once",
    ]
    assert said[4].startswith(f"criteo under {tmp_path / 'logs'}")
    assert open_logs(tmp_path / "logs").rows == {"touchpoints": 3, "uploads": 1}


def test_options_reach_the_importer(source: Path, tmp_path: Path) -> None:
    assert main(["import", "criteo", str(source), "--out", str(tmp_path / "logs"), "--touches", "impressions"]) == 0
    assert main(["import", "criteo", str(source), "--out", str(tmp_path / "logs"), "--touches", "views"]) == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["netflix", "x", "--out", "y"], "no data set 'netflix': there are criteo, kuairand"),
        (["criteo", "nowhere.tsv", "--out", "y"], "nowhere.tsv: [Errno 2] No such file"),
        (["criteo", "nowhere.tsv"], "out"),
        (["kuairand", "nowhere", "--out", "y"], "nowhere: is no folder"),
        (["kuairand", "nowhere", "--out", "y", "--outcome", "uploads"], "outcome is 'uploads'; there are comments"),
        (["kuairand", "nowhere", "--out", "y", "--touches", "clicks"], "--touches"),
    ],
)
def test_an_import_that_means_nothing_is_named_on_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", *arguments]) == 2
    said = capsys.readouterr().err
    assert named in said
    assert len(said.splitlines()) == 1


def test_a_wrong_file_is_refused_and_nothing_is_left(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.write_text(HEADER + ROWS.replace("5000", "soon"))
    assert main(["import", "criteo", str(source), "--out", str(tmp_path / "logs")]) == 2
    assert f"error: {source}: line 5, column 'timestamp': 'soon' is not a number" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["criteo.tsv"]
