"""Units on real small worlds: what methods are given, what is kept, and what happens when something fails."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import accuracy_example
import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from benchmarks.accuracy import runner
from benchmarks.accuracy.cli import main
from benchmarks.accuracy.dataset import DataSet, prepare
from benchmarks.accuracy.runner import Workplace, run_unit, score
from benchmarks.accuracy.unit import FIRST_SEED, ORACLE, Records, Task, Unit, open_tasks
from benchmarks.methods import METHODS
from benchmarks.progress import progress
from features.errors import AlmMtaError, ConfigError
from validation.worlds import REPORT_WORLDS, WORLDS
from validation.worlds.tables import DAY_US, EPOCH_US

FAKES = "accuracy_example:METHODS"
UNIT = Unit(world_set="selection", name="logit", world=WORLDS["logit"], users=400, seed=11)
DRIFT = Unit(world_set="selection", name="drift", world=WORLDS["drift"], users=400, seed=11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logit")


@pytest.fixture(scope="module")
def data(folder: Path) -> DataSet:
    return prepare(UNIT, folder)


def test_every_touch_has_its_own_truth(data: DataSet, folder: Path) -> None:
    """Found again by another join, on the user and the touch's moment."""
    truth = pd.read_parquet(folder / "observed" / "logs" / "truth" / "touchpoints")
    truth["ts"] = truth["ts"].astype("datetime64[us]").astype("int64")
    assert not truth.duplicated(["user_id", "ts"]).any()
    table, rows = data.table, data.row_J.tolist()
    asked = pd.DataFrame(
        [
            (int(table.keys["user_id"].iloc[row]), int(table.touch_ts_N[table.offset_J[row] + step]))
            for row in rows
            for step in range(int(table.length_J[row]))
        ],
        columns=["user_id", "ts"],
    )
    found = asked.merge(truth, on=["user_id", "ts"], how="left")
    np.testing.assert_array_equal(found["delta"], data.judged.truth_T)


def test_methods_are_asked_about_the_judge_split_in_its_order(data: DataSet) -> None:
    keys = data.table.keys
    asked = keys.iloc[data.row_J.numpy()]
    assert set(asked["split"]) == {"judge"}
    assert not set(asked["user_id"]) & set(keys[keys["split"] == "fit"]["user_id"])
    batch = data.table.batch(data.row_J)
    mask_BL = batch.treatment.mask_BL.bool()
    np.testing.assert_array_equal(batch.treatment.cluster_BL[mask_BL].numpy(), data.judged.arrays.column_T)
    last_BL = torch.arange(mask_BL.shape[1]) == mask_BL.sum(1, keepdim=True) - 1
    np.testing.assert_array_equal(last_BL[mask_BL].numpy(), data.judged.last_T)


def test_the_experiment_is_the_same_world_without_confounding(data: DataSet) -> None:
    """p_do is what is uploaded there, and everything is encoded as the methods' own table is."""
    trial, known = data.randomised_table, data.randomised
    assert trial.schema == data.table.schema
    assert len(trial.keys) == len(known.y_J) == len(known.p_do_J)
    assert abs(known.y_J.mean() - known.p_do_J.mean()) < 4 * known.y_J.std() / np.sqrt(len(known.y_J))
    assert torch.equal(trial.content_ID, data.table.content_ID)


def test_where_the_world_drifts_later_journeys_are_judged(tmp_path: Path) -> None:
    drift = prepare(DRIFT, tmp_path)
    day_J = (drift.table.t_obs_J.numpy() - EPOCH_US) / DAY_US
    day = DRIFT.world.test_from_day
    assert day is not None
    for split in ("fit", "selection"):
        assert day_J[drift.table.split(split).numpy()].max() < day
    assert day_J[drift.row_J.numpy()].min() >= day
    trial = drift.randomised_table
    assert len(trial.keys) == len(trial.t_obs_J) == len(trial.label_J) == len(drift.randomised.p_do_J) > 0
    assert ((trial.t_obs_J.numpy() - EPOCH_US) / DAY_US).min() >= day
    moment_J = trial.keys["t_obs"].dt.tz_localize(None).astype("datetime64[us]").astype("int64")
    np.testing.assert_array_equal(moment_J, trial.t_obs_J.numpy())


def test_scores_do_not_depend_on_what_drew_random_numbers_before(data: DataSet) -> None:
    steady = accuracy_example.METHODS["steady"]
    first = score(steady, data, 11)["figures"]
    np.random.standard_normal(17)
    again = score(steady, data, 11)["figures"]
    assert first | {"cpu_s": 0} == again | {"cpu_s": 0}
    assert first["correlation"] != score(steady, data, 12)["figures"]["correlation"]


def test_a_rule_of_thumb_is_scored(data: DataSet) -> None:
    figures = score(METHODS["last-touch"], data, 11)["figures"]
    assert figures["coverage"] == 1.0
    assert figures["touches_per_covered_upload"] == 1.0
    assert figures["top1_vs_last_touch"] == pytest.approx(1.0)


def test_a_failing_method_does_not_stop_the_others(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "prepare", lambda *_: data)
    records, wanted = Records(root=tmp_path / "records"), ("brittle", "short", ORACLE, "alm-mta")
    run_unit(UNIT, accuracy_example.METHODS, wanted, records, tmp_path)
    found = {name: records.read(UNIT, name) for name in wanted}
    brittle, short, oracle, ours = (found[name] or {} for name in wanted)
    assert brittle["failed"] == "ValueError: this method never works"
    assert "in _brittle" in brittle["traceback"]
    assert "credit_N: shape" in short["failed"]
    assert oracle["figures"]["correlation"] == pytest.approx(1.0)
    assert oracle["holds"]["judged_journeys"] == len(data.row_J)
    assert "correlation" in ours["figures"]
    assert ours["settings"]["world"]["confounding"] == WORLDS["logit"].confounding
    assert records.missing(UNIT, wanted) == ("brittle", "short")


def test_a_world_that_cannot_be_prepared_fails_all_its_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> DataSet:
        raise OSError("no space left")

    monkeypatch.setattr(runner, "prepare", broken)
    records = Records(root=tmp_path / "records")
    run_unit(UNIT, accuracy_example.METHODS, (ORACLE, "steady"), records, tmp_path)
    assert [(records.read(UNIT, name) or {})["failed"] for name in (ORACLE, "steady")] == ["OSError: no space left"] * 2


def test_only_what_is_missing_is_open(tmp_path: Path) -> None:
    records, units, methods = Records(root=tmp_path), (UNIT, DRIFT), ("a", "b")
    for unit in units:
        for method in methods:
            records.write(unit, method, {"figures": {}})
    assert open_tasks(units, methods, records, fresh=False) == []
    records.path(DRIFT, "b").unlink()
    (task,) = open_tasks(units, methods, records, fresh=False)
    assert (task.unit, task.methods) == (DRIFT, ("b",))
    assert len(open_tasks((UNIT,), methods, records, fresh=True)[0].methods) == 2
    assert records.read(UNIT, "a") is None
    assert records.read(DRIFT, "a") is not None


@pytest.mark.parametrize(
    "change",
    [{"users": 401}, {"seed": 12}, {"world_set": "report"}, {"name": "other"},
     {"world": dataclasses.replace(WORLDS["logit"], randomised_share=0.05)},
     {"world": dataclasses.replace(WORLDS["logit"], confounding=1.4)}],
)  # fmt: skip
def test_other_settings_are_other_records(change: dict[str, object], tmp_path: Path) -> None:
    records = Records(root=tmp_path)
    assert records.path(UNIT, "a") == records.path(dataclasses.replace(UNIT), "a")
    assert records.path(UNIT, "a") != records.path(dataclasses.replace(UNIT, **change), "a")  # type: ignore[arg-type]


def test_selection_and_report_share_neither_seeds_nor_parameters() -> None:
    assert abs(FIRST_SEED["report"] - FIRST_SEED["selection"]) >= 100
    assert WORLDS.keys() == REPORT_WORLDS.keys()
    assert all(WORLDS[name] != REPORT_WORLDS[name] for name in WORLDS)


def test_plain_lines_say_how_far_it_is() -> None:
    said, now = io.StringIO(), [0.0]
    with progress("accuracy", 10, Console(file=said, width=120), clock=lambda: now[0]) as tell:
        for at, done in ((1.0, 1), (40.0, 4), (50.0, 5), (100.0, 10)):
            now[0] = at
            tell(done)
    assert said.getvalue().splitlines() == [
        "accuracy: 4/10, 40 s so far, about 60 s left",
        "accuracy: 10/10, 2 min so far, about 0 s left",
    ]


def command(tmp_path: Path, *more: str) -> int:
    """Two worlds, two seeds, four methods of which two fail, on 300 users."""
    common = ["--users", "300", "--seeds", "2", "--worlds", "logit,no-effect", "--set", "selection", "--jobs", "2"]
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    return main([*common, *places, *more], methods_at=FAKES)


def check_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A run, and another after one record was lost: it alone is computed again, and found equal."""
    assert command(tmp_path) == 1
    first = json.loads((tmp_path / "out" / "accuracy-selection-300-part.json").read_text())
    rows = {(row["world"], row["method"]): row for row in first["results"]}
    assert set(rows["logit", "brittle"]["failed"]) == {"11", "12"}
    assert rows["logit", "steady"]["mean"]["randomised_p_error"] > 0
    assert first["command"] == (
        "alm-mta benchmark accuracy --set selection --users 300 --seeds 2 --worlds logit,no-effect"
    )
    text = (tmp_path / "out" / "accuracy-selection-300-part.md").read_text()
    assert f"{rows['logit', 'alm-mta']['mean']['correlation']:.2f} ± " in text
    assert "- brittle on logit, seed 11: ValueError: this method never works" in text
    assert (tmp_path / "out" / "accuracy-selection-300-part-auuc.svg").is_file()
    assert not any((tmp_path / "work" / "scratch").iterdir())

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "records").rglob("*.json")}
    lost = next(path for path in sorted(kept) if path.name.startswith("steady") and "logit" in path.parts)
    lost.unlink()
    assert command(tmp_path, "--methods", "alm-mta,steady", "--name", "again") == 0
    assert "1 of 12 records to compute" in capfd.readouterr().err
    assert {path for path, at in kept.items() if path.stat().st_mtime_ns != at} == {lost}
    again = json.loads((tmp_path / "out" / "accuracy-again.json").read_text())
    found = next(r["mean"] for r in again["results"] if (r["world"], r["method"]) == ("logit", "steady"))
    assert found | {"cpu_s": 0} == rows["logit", "steady"]["mean"] | {"cpu_s": 0}


def test_the_command_computes_reports_and_resumes(
    data: DataSet, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, and every unit the same data set."""

    def run_here(tasks: Sequence[Task], place: Workplace, jobs: int, tell: Callable[[int], None]) -> None:
        assert jobs <= 2
        for task in tasks:
            run_unit(task.unit, accuracy_example.METHODS, task.methods, place.records, place.scratch)
        tell(sum(len(task.methods) for task in tasks))

    monkeypatch.setattr(runner, "prepare", lambda *_: data)
    monkeypatch.setattr(runner, "run_tasks", run_here)
    check_command(tmp_path, capfd)


@pytest.mark.slow
def test_the_command_with_processes_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check_command(tmp_path, capfd)
    rows = json.loads((tmp_path / "out" / "accuracy-again.json").read_text())["results"]
    flat = next(row for row in rows if (row["world"], row["method"]) == ("no-effect", "steady"))
    assert "rmse" in flat["mean"]
    assert "correlation" not in flat["mean"]


@pytest.mark.slow
def test_a_worker_that_dies_is_told_and_what_was_done_is_kept(tmp_path: Path) -> None:
    with pytest.raises(AlmMtaError, match="a worker process died"):
        main(["--users", "300", "--seeds", "1", "--worlds", "logit", "--set", "selection", "--work", str(tmp_path),
              "--out", str(tmp_path / "out")], methods_at="accuracy_example:DEADLY")  # fmt: skip
    kept = sorted(path.name.split("-")[0] for path in (tmp_path / "records").rglob("*.json"))
    assert kept == ["oracle", "steady"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--worlds", "logit,flat"], "flat"), (["--methods", "magic"], "magic"), (["--set", "all"], "all"),
     (["--users", "0"], "users"), (["--randomised-share", "1"], "randomised-share")],
)  # fmt: skip
def test_what_means_nothing_is_refused(arguments: list[str], named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=named):
        main([*arguments, "--work", str(tmp_path)])
