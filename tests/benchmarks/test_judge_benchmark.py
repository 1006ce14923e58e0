"""`alm-mta benchmark judge`: what is recorded of a data set, how rates come of records, and that it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confounded_world import confounded_world

from benchmarks.judge.cli import main
from benchmarks.judge.dataset import JudgedSet
from benchmarks.judge.summary import Rate, rate, summarise
from benchmarks.judge.trial import run_trial
from benchmarks.judge.zoo import LEVELS, perturbed
from features.errors import ConfigError
from validation.falsification import FalsificationConfig
from validation.measured import JudgeConfig

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
        "bucket_share": [0.5, 0.5], "rankings": ["a", "b", "c"], "cell_correlation": {"OBS": 0.5, "FD": None},
        "protocols": {name: {"delta": delta, "se": se} for name in ("OBS", "FD")},
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
    assert found["tests"]["t"]["fail"]["value"] == 1
    assert found["cell_correlation"] == {"OBS": 0.5, "FD": None}


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
        "--set", "selection", "--sizes", "400:1", "--worlds", "logit,feedback", "--trained", "", "--jobs",
        "1", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--name", "tiny",
    ]  # fmt: skip
    assert main(arguments) == 0
    assert "2 of 2 data sets to judge" in capsys.readouterr().err
    first = (tmp_path / "out" / "judge-tiny.json").read_bytes()
    result = json.loads(first)
    assert list(result["sizes"][0]["worlds"]) == ["feedback", "logit"]
    assert "truth 0.5" in result["settings"]["rankings"]
    assert "| feedback (1 x" in (tmp_path / "out" / "judge-tiny.md").read_text()
    assert main(arguments) == 0
    assert "0 of 2 data sets to judge" in capsys.readouterr().err
    assert (tmp_path / "out" / "judge-tiny.json").read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--worlds", "logit,mars"], "--worlds mars: there are logit"),
        (["--sizes", "1000"], "--sizes 1000: write USERS:SEEDS"),
        (["--sizes", "10:1"], "--sizes 10:1: users must be from 100"),
        (["--trained", "oracle"], "--trained oracle: there are alm-mta"),
        (["--set", "all"], "--set all: there are report, selection"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_computed(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        main([*arguments, "--work", str(tmp_path / "work")])
    assert not (tmp_path / "work").exists()
