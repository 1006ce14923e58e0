"""`alm-mta benchmark judge`: what is recorded of a data set, how rates come of records, and that it resumes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from confounded_world import confounded_world
from scipy.special import expit

from benchmarks.judge.cases import AUDITS, EXPECTED, UnevenWorld, cases, elsewhere
from benchmarks.judge.cli import main
from benchmarks.judge.dataset import JudgedSet, prepare, prepare_table
from benchmarks.judge.summary import Rate, rate, summarise
from benchmarks.judge.targets import VALID, against_targets
from benchmarks.judge.trial import run_case, run_trial
from benchmarks.judge.zoo import LEVELS, perturbed
from features.errors import ConfigError
from model.data import JourneyTable
from validation.falsification import FalsificationConfig
from validation.measured import JudgeConfig
from validation.worlds import JUDGE_REPORT_WORLDS, JUDGE_WORLDS, REPORT_WORLDS, WORLDS

CONFIG = JudgeConfig(replicates=40, half_pairs=2, falsification=FalsificationConfig(min_treated=500))


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    world = confounded_world(14_000, seed=21)
    judged = JudgedSet(arrays=world.data, truth_T=world.truth_T, credit_T={"reversed": -world.truth_T})
    return run_trial(judged, 3, CONFIG)


def test_a_record_is_plain_json_and_complete(record: dict[str, Any]) -> None:
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    rankings = len(LEVELS) + 2
    assert len(record["rankings"]) == len(record["true_area"]) == rankings
    assert set(record["protocols"]) == {"FD", "OBS", "DML", "raw", "IPW"}
    for protocol in record["protocols"].values():
        delta_MM = np.array(protocol["delta"])
        assert delta_MM.shape == (rankings, rankings)
        np.testing.assert_allclose(delta_MM, -delta_MM.T)
        assert (np.diag(delta_MM) == 0).all()


def test_the_zoo_is_ordered_by_its_levels(record: dict[str, Any]) -> None:
    area_M = np.array(record["true_area"]).sum(1)
    by_name = dict(zip(record["rankings"], area_M, strict=True))
    assert by_name["truth 1"] == pytest.approx(record["true_oracle"])
    assert by_name["truth -1"] == pytest.approx(-record["true_oracle"])
    assert by_name["truth 0.95"] > by_name["truth 0.65"] > by_name["truth -0.5"]
    assert by_name["reversed"] == by_name["truth -1"]
    assert 0 < by_name["harmful"] < by_name["truth 1"]


def test_perturbed_truths_correlate_as_their_level_says() -> None:
    rng = np.random.default_rng(0)
    u_BK, w_BK = rng.standard_normal((2, 4_000)), np.full((2, 4_000), 1 / 4_000)
    for name, score_BK in perturbed(u_BK, w_BK, rng).items():
        if name.startswith("truth"):
            found = np.corrcoef(score_BK[0], u_BK[0])[0, 1]
            assert found == pytest.approx(float(name.removeprefix("truth ")), abs=0.05)


def test_confounding_fools_the_raw_protocol_and_not_the_keys(record: dict[str, Any]) -> None:
    found = summarise([record])
    right = {name: rates["right"]["value"] for name, rates in found["protocols"].items()}
    assert right["FD"] > 0.9 > 0.6 > right["raw"]
    assert right["two keys"] > 0.9
    assert found["protocols"]["two keys"]["promotes_worse"]["value"] == 0
    assert found["cell_correlation"]["FD"] > 0.8 > found["cell_correlation"]["raw"]


def made(verdicts: list[list[str]], *, blocks: bool) -> dict[str, Any]:
    """Three rankings of true areas 1, .9 and 0 in two buckets; the second bucket is worse off under the first."""
    delta = [[0.0, -0.1, 1.0], [0.1, 0.0, 1.0], [-1.0, -1.0, 0.0]]
    se = [[0.2] * 3] * 3
    return {
        "journeys": 100, "true_area": [[1.1, -0.1], [0.4, 0.5], [0.0, 0.0]], "true_oracle": 1.2,
        "bucket_share": [0.5, 0.5], "rankings": ["a", "b", "c"],
        "cell_correlation": {"OBS": 0.5, "FD": None, "raw": None},
        "protocols": {name: {"delta": delta, "se": se} for name in ("OBS", "FD", "raw")},
        "gate": {"keys": verdicts, "battery": verdicts},
        "findings": [{"test": "t", "statistic": 2.0, "threshold": 1.0, "verdict": "fail", "blocks": blocks}],
    }  # fmt: skip


def test_rates_by_hand() -> None:
    """Pairs apart by .06: (a, b), (a, c), (b, c). The judge has the first wrong and calls nothing of it sure.

    a is no *better* challenger, for it harms bucket 2; only b against c is.
    """
    verdicts = [["rejected", "approved", "rejected"], ["approved", "rejected", "inconclusive"], ["rejected"] * 3]
    found = summarise([made(verdicts, blocks=True), made(verdicts, blocks=False)])
    obs, gate = found["protocols"]["OBS"], found["protocols"]["two keys"]
    assert obs["right"]["value"] == pytest.approx(2 / 3)
    assert obs["promotes_worse"] == {"value": 0.0, "low": 0.0, "high": pytest.approx(0.658, abs=1e-3), "pairs": 6}
    assert obs["refuses_better"]["value"] == 0
    assert gate["promotes_worse"]["value"] == pytest.approx(1 / 3)
    assert (gate["refuses_better"]["value"], gate["rejects_better"]["value"]) == (1.0, 0.0)
    assert found["flagged"]["value"] == 0.5
    assert obs["rejects_better"]["value"] == 0
    assert found["tests"]["t"]["says"]["value"] == 1
    assert found["tests"]["t"]["blocks"]["value"] == 0.5
    assert found["cell_correlation"] == {"OBS": 0.5, "FD": None, "raw": None}


def test_intervals_know_that_pairs_of_a_data_set_go_together() -> None:
    together = rate([(10.0, 10.0), (0.0, 10.0)] * 10)
    apart = rate([(5.0, 10.0), (5.0, 10.0)] * 10)
    assert together.value == apart.value == 0.5
    assert (together.high or 0) - (together.low or 0) > 2 * (apart.high or 0) - 2 * (apart.low or 0)
    assert rate([(0.0, 0.0)]) == Rate(value=None, low=None, high=None, pairs=0)
    none = rate([(0.0, 50.0)] * 4)
    assert none.low == 0
    assert none.high == pytest.approx(0.49, abs=0.01)  # four data sets, however many pairs


def test_the_command_writes_its_result_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--set", "selection", "--sizes", "400:1", "--worlds", "logit,feedback", "--trained", "last-touch", "--battery",
        "1", "--cases", "few-users", "--jobs", "1", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"),
        "--name", "tiny",
    ]  # fmt: skip
    assert main(arguments) == 0
    assert "3 of 3 data sets to judge" in capsys.readouterr().err
    first = (tmp_path / "out" / "judge-tiny.json").read_bytes()
    result = json.loads(first)
    assert list(result["sizes"][0]["worlds"]) == ["feedback", "logit"]
    assert "truth 0.5" in result["settings"]["rankings"]
    report = (tmp_path / "out" / "judge-tiny.md").read_text()
    assert "| feedback (1 x" in report
    assert result["powers"][0]["test"] == "cell size"
    assert result["powers"][0]["flags"]["says"]["value"] == 1
    assert re.search(r"\| cell size \| few-users \| 1.000 \[.*\] of 1 \(\S+\) \| logit \| not run \|", report)
    assert main(arguments) == 0
    assert "0 of 3 data sets to judge" in capsys.readouterr().err
    assert (tmp_path / "out" / "judge-tiny.json").read_bytes() == first


def test_targets_pool_worlds_and_say_what_holds() -> None:
    """One valid world is blocked, the others are not; the gate promotes a worse ranking in a third of the pairs."""
    verdicts = [["rejected", "approved", "rejected"], ["approved", "rejected", "inconclusive"], ["rejected"] * 3]
    records = {world: [made(verdicts, blocks=world == "saturating")] for world in (*VALID, "direct-path")}
    rows = {(row["what"], row["by"], *row["worlds"]): row for row in against_targets(records)}
    right = rows["ranks right", "two keys", *VALID]
    assert (right["rate"]["value"], right["rate"]["pairs"], right["holds"]) == (pytest.approx(2 / 3), 12, False)
    promoted = rows["promotes worse", "two keys and battery", "direct-path"]
    assert (promoted["rate"]["value"], promoted["most"], promoted["holds"]) == (pytest.approx(1 / 3), 0.01, False)
    assert rows["passes", "battery", "logit"]["holds"]
    assert not rows["passes", "battery", "saturating"]["holds"]
    assert not rows["flags", "battery", "direct-path"]["holds"]
    assert ("flags", "battery", "feedback") not in rows


def test_every_test_of_the_battery_has_its_cases() -> None:
    known = cases(WORLDS | JUDGE_WORLDS)
    assert {name for item in EXPECTED for name in (item.flags, item.quiet)} == set(known)
    assert set(known) == set(cases(REPORT_WORLDS | JUDGE_REPORT_WORLDS))
    assert known["few-users"].world == known["logit"].world


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[JudgedSet, JourneyTable]:
    """Three thousand users of a world with random exposures, and another platform's."""
    here, there, store = (tmp_path_factory.mktemp(name) for name in ("here", "there", "store"))
    world = cases(WORLDS | JUDGE_WORLDS)["randomised"].world
    return prepare(world, 3_000, 5, {}, here, store), prepare_table(elsewhere(world), 1_000, 6, there, store)


def test_the_battery_tells_a_broken_candidate_from_a_sound_one(prepared: tuple[JudgedSet, JourneyTable]) -> None:
    judged, other = prepared

    def says(elsewhere: JourneyTable | None) -> dict[str, str]:
        return {item["test"]: item["verdict"] for item in run_case(judged, elsewhere, 5, CONFIG)["findings"]}

    own = [item.test for item in EXPECTED if item.flags == "broken-candidate"]
    sound, broken = says(None), says(other)
    assert {sound[test] for test in own} <= {"pass", "no power"}
    assert {broken[test] for test in own if not test.startswith("calibration")} <= {"warn", "fail"}
    assert "warn" in {broken["calibration, slope"], broken["calibration, level"]}
    assert sound[AUDITS["better"]] != "fail"
    assert AUDITS["worse"] in sound


def test_uneven_contamination_shifts_watching_by_intent_and_cluster() -> None:
    world = cases(WORLDS | JUDGE_WORLDS)["unevenly-contaminated"].world
    assert isinstance(world, UnevenWorld)
    watched = {"watch_ratio": np.full((2, 1, 2), 0.5, dtype=np.float32)}
    sessions = SimpleNamespace(cluster_USL=np.array([[[0, 1]], [[2, 3]]]), w_U=np.array([1.0, -2.0]))
    shifted = world.leak_responses(watched, sessions, *[None] * 3)["watch_ratio"]  # type: ignore[arg-type]
    expected = expit(0.45 * np.array([[[1.0, -1.0]], [[-2.0, 2.0]]]))
    np.testing.assert_allclose(shifted, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--worlds", "logit,mars"], "--worlds mars: there are logit"),
        (["--sizes", "1000"], "--sizes 1000: write USERS:SEEDS"),
        (["--sizes", "10:1"], "--sizes 10:1: users must be from 100"),
        (["--trained", "oracle"], "--trained oracle: there are alm-mta"),
        (["--set", "all"], "--set all: there are report, selection"),
        (["--cases", "mars"], "--cases mars: there are logit"),
        (["--battery", "-1"], "--battery -1: must be from 0"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_computed(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        main([*arguments, "--work", str(tmp_path / "work")])
    assert not (tmp_path / "work").exists()
