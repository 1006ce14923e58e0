"""The judge's whole chain on simulated logs through the real stages, with credits made from the truth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_credits import judge_touches, noisy, write_credits

from features.errors import AlmMtaError, ConfigError
from features.files import write_json
from features.journeys import JourneyConfig, build_journeys
from features.reader import open_logs
from features.retrieval import retrieve_features
from validation.evaluate import evaluate
from validation.falsification import FalsificationConfig
from validation.gate import Decision, replay
from validation.judge_data import load_judge, shard_of
from validation.measured import JudgeConfig
from validation.worlds import LogitWorld, simulate

CONFIG = JudgeConfig(replicates=60, half_pairs=3, falsification=FalsificationConfig(min_treated=1_000))


def chain(root: Path, world: LogitWorld, users: int, *, drop: tuple[str, ...] = ()) -> Path:
    """Simulate, drop tables, cut journeys, join features."""
    simulate(world, users, 3, root / "logs")
    for table in drop:
        shutil.rmtree(root / "logs" / table)
    logs = open_logs(root / "logs")
    build_journeys(logs, JourneyConfig(), root / "journeys")
    retrieve_features(logs, root / "journeys", root / "store", root / "data")
    return root


def judge(root: Path, config: JudgeConfig = CONFIG) -> tuple[Decision, dict[str, Any]]:
    decision = evaluate(
        journeys_dir=root / "journeys",
        data_dir=root / "data",
        credits_dir=root / "credits",
        model_dir=root / "model",
        logs_root=root / "logs",
        config=config,
        out=root / "evaluation",
        data_quality=[{"suite": "raw_logs", "success": True, "warnings": []}],
    )
    return decision, json.loads((root / "evaluation" / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def logit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = LogitWorld(clusters=12, authors=60, items=400, effect_mean=0.2)
    return chain(tmp_path_factory.mktemp("logit"), world, 8_000)


@pytest.fixture(scope="module")
def touches(logit: Path) -> pd.DataFrame:
    return judge_touches(logit)


def test_credits_close_to_the_truth_are_approved(logit: Path, touches: pd.DataFrame) -> None:
    write_credits(logit, touches, noisy(touches["truth"].to_numpy(), 0.8, np.random.default_rng(0)))
    decision, evaluation = judge(logit)
    assert decision.verdict == "approved", decision.reasons
    assert decision.metrics["truth_corr"] == pytest.approx(0.8, abs=0.02)
    assert decision.metrics["auuc_candidate_truth"] > 0.95
    assert decision.metrics["auuc_candidate_FD"] > 0.8
    assert abs(decision.metrics["truth_corr_naive"]) < 0.05
    assert all(isinstance(value, float) and np.isfinite(value) for value in decision.metrics.values())
    assert (logit / "evaluation" / "report.html").stat().st_size > 10_000
    stored = json.loads((logit / "evaluation" / "decision.json").read_text())
    assert stored["verdict"] == "approved"
    assert stored["thresholds"]["falsification"]["min_treated"] == 1_000
    assert replay(evaluation["gate"]).reasons == decision.reasons
    expected = {
        "verdict", "reasons", "identification", "buckets", "rankings", "curves", "auuc", "gate", "falsification",
        "sensitivity", "calibration", "metrics", "clusters", "creators", "training", "data_quality", "counts", "model",
    }  # fmt: skip
    assert set(evaluation) == expected
    assert {curve["judge"] for curve in evaluation["curves"]} == {"FD", "OBS", "raw", "IPW", "truth"}
    assert all(abs(row["normalised_by_level"]) > 0 for row in evaluation["auuc"] if row["judge"] == "truth")
    assert {row["bucket"] for row in evaluation["auuc"]} == {"all", *(row["bucket"] for row in evaluation["buckets"])}
    assert {
        "cell size", "leakage, liked", "leakage, template_tapped", "leakage, the model's index",
        "mediator relevance, pooled", "direct path, correlation", "positivity", "contaminated responses",
        "contaminated responses, by cluster", "placebo, later touches", "placebo, shuffled users",
        "negative control relevance", "post-window exposures", "calibration, slope", "calibration, level",
    } <= {finding["test"] for finding in evaluation["falsification"]}  # fmt: skip
    assert {(row["judge"], row["claim"]) for row in evaluation["sensitivity"]} == {
        (judge, claim) for judge in ("FD", "OBS") for claim in ("Better than last touch", "Better than a random order")
    }
    assert sum(point["journeys"] for point in evaluation["calibration"]) == evaluation["counts"]["judge_journeys"]


def test_judging_twice_gives_the_same_bytes(logit: Path, touches: pd.DataFrame) -> None:
    write_credits(logit, touches, noisy(touches["truth"].to_numpy(), 0.8, np.random.default_rng(0)))
    contents = []
    for _ in range(2):
        judge(logit)
        contents.append([(logit / "evaluation" / name).read_bytes() for name in ("evaluation.json", "decision.json")])
    assert contents[0] == contents[1]


def test_a_sample_of_users_judges_where_there_are_too_many(logit: Path, touches: pd.DataFrame) -> None:
    """Whole users, every number of theirs the same as where all are judged."""
    write_credits(logit, touches, touches["truth"].to_numpy())
    folders = {"journeys_dir": logit / "journeys", "data_dir": logit / "data", "credits_dir": logit / "credits"}
    whole, part = (
        load_judge(**folders, min_treated=100, max_clusters=64, max_journeys=most) for most in (1_000_000, 2_000)
    )
    ours_T = np.isin(whole.keys.user_T, part.keys.user_T)
    ours_J = np.bincount(whole.arrays.journey_T, ours_T) > 0
    assert 1_950 < len(part.arrays.y_J) == ours_J.sum() <= 2_000 < len(whole.arrays.y_J)
    assert len(np.unique(part.arrays.shard_J)) > 300
    np.testing.assert_array_equal(part.keys.ts_T, whole.keys.ts_T[ours_T])
    np.testing.assert_array_equal(part.arrays.y_J, whole.arrays.y_J[ours_J])
    np.testing.assert_array_equal(part.arrays.delta_T["candidate"], whole.arrays.delta_T["candidate"][ours_T])
    assert part.arrays.post_JK is not None
    assert whole.arrays.post_JK is not None
    np.testing.assert_array_equal(part.arrays.post_JK.sum(1), whole.arrays.post_JK[ours_J].sum(1))


def test_reversed_and_shuffled_credits_are_not_approved(logit: Path, touches: pd.DataFrame) -> None:
    rng = np.random.default_rng(1)
    truth = touches["truth"].to_numpy()
    write_credits(logit, touches, -truth)
    decision, _ = judge(logit)
    assert decision.verdict == "rejected"
    write_credits(logit, touches, rng.permutation(truth))
    decision, _ = judge(logit)
    assert decision.verdict != "approved"


def test_a_better_champion_stays(logit: Path, touches: pd.DataFrame) -> None:
    truth = touches["truth"].to_numpy()
    rng = np.random.default_rng(2)
    write_credits(logit, touches, rng.permutation(truth), champion=noisy(truth, 0.8, rng))
    decision, evaluation = judge(logit)
    assert decision.verdict == "rejected"
    assert decision.reasons[0].startswith("worse than champion")
    assert evaluation["rankings"] == ["candidate", "champion", "last_touch", "naive"]
    assert evaluation["gate"]["champion"] == "champion"
    shutil.rmtree(logit / "credits" / "champion")


def test_a_champion_that_cannot_score_these_logs_is_never_replaced_unseen(logit: Path, touches: pd.DataFrame) -> None:
    write_credits(logit, touches, touches["truth"].to_numpy())
    write_json(logit / "credits" / "summary.json", {"champion_incomparable": "was fitted on other features"})
    decision, _ = judge(logit)
    (logit / "credits" / "summary.json").unlink()
    assert decision.verdict == "inconclusive"
    assert "champion was fitted on other features and cannot be compared" in decision.reasons[0]


def test_a_response_that_training_left_out_is_tested_and_read_by_no_judge(logit: Path, touches: pd.DataFrame) -> None:
    write_credits(logit, touches, touches["truth"].to_numpy())
    write_json(logit / "credits" / "summary.json", {"leaky_responses": ["watch_ratio", "liked"]})
    _, evaluation = judge(logit)
    (logit / "credits" / "summary.json").unlink()
    findings = {finding["test"]: finding for finding in evaluation["falsification"]}
    assert findings["leakage, liked"]["verdict"] == "warn"
    assert findings["leakage, template_tapped"]["verdict"] == "pass"
    _, whole = judge(logit)
    fd, whole_fd = (
        next(row["area"] for row in each["auuc"] if (row["judge"], row["ranking"]) == ("FD", "candidate"))
        for each in (evaluation, whole)
    )
    assert fd != whole_fd


def test_drift_against_the_champion_is_reported(logit: Path, touches: pd.DataFrame) -> None:
    write_credits(logit, touches, touches["truth"].to_numpy())
    then = {"journeys": 5_000, "clusters": {"cluster": [900, 100]}, "responses": {}, "profile": {}}
    snapshots = {"champion": then, "logs": {**then, "clusters": {"cluster": [100, 900]}}}
    write_json(logit / "credits" / "summary.json", {"snapshots": snapshots})
    _, evaluation = judge(logit)
    (logit / "credits" / "summary.json").unlink()
    drifts = [finding for finding in evaluation["falsification"] if finding["test"].startswith("drift")]
    assert [(finding["test"], finding["verdict"]) for finding in drifts] == [("drift, clusters", "warn")]


def test_randomised_exposures_audit_the_candidate(tmp_path: Path) -> None:
    """By design: the true ranking stands, its reverse is contradicted even if everything else were fooled."""
    world = LogitWorld(clusters=12, authors=60, items=400, effect_mean=0.3, touches=8, randomised_share=0.7)
    root = chain(tmp_path, world, 5_000)
    rows = judge_touches(root)
    truth = rows.groupby("cluster_id")["truth"].transform("mean").to_numpy()
    verdicts = []
    for candidate, champion in ((truth, -truth), (-truth, truth)):
        write_credits(root, rows, candidate, champion=champion)
        decision, evaluation = judge(root)
        findings = {finding["test"]: finding["verdict"] for finding in evaluation["falsification"]}
        verdicts.append(findings["randomised audit"])
        assert {"randomised", "FD"} <= {row["judge"] for row in evaluation["auuc"]}
        assert {key["judge"] for key in evaluation["gate"]["keys"]} == {"OBS", "FD"}
    assert verdicts == ["pass", "fail"]
    assert decision.verdict == "rejected"
    assert any("randomised exposures contradict it" in reason for reason in decision.reasons)


def test_too_few_journeys_is_inconclusive_with_a_number(logit: Path, touches: pd.DataFrame) -> None:
    write_credits(logit, touches, touches["truth"].to_numpy())
    strict = JudgeConfig(replicates=20, half_pairs=1, falsification=FalsificationConfig(min_treated=10_000))
    decision, _ = judge(logit, strict)
    assert decision.verdict == "inconclusive"
    assert decision.reasons[0].startswith("too few journeys")
    assert decision.journeys_needed is not None
    assert decision.journeys_needed > len(touches["journey_id"].unique())


def test_credits_of_other_touches_are_refused(logit: Path, touches: pd.DataFrame) -> None:
    write_credits(logit, touches, touches["truth"].to_numpy())
    path = logit / "credits" / "attributions" / "part-0.parquet"
    pd.read_parquet(path).iloc[1:].to_parquet(path)
    with pytest.raises(AlmMtaError, match=r"'candidate'.*attribution"):
        judge(logit)


def test_without_responses_and_embeddings_there_is_no_mediator_evidence(tmp_path: Path) -> None:
    world = LogitWorld(clusters=12, authors=60, items=400)
    simulate(world, 3_000, 4, tmp_path / "logs")
    for table, lost in (("touchpoints", ["watch_ratio", "liked", "template_tapped"]), ("uploads", ["embedding"])):
        path = tmp_path / "logs" / table / "part-0.parquet"
        pd.read_parquet(path).drop(columns=lost).to_parquet(path, coerce_timestamps="us")
    for table in ("users", "items"):
        shutil.rmtree(tmp_path / "logs" / table)
    logs = open_logs(tmp_path / "logs")
    build_journeys(logs, JourneyConfig(), tmp_path / "journeys")
    retrieve_features(logs, tmp_path / "journeys", tmp_path / "store", tmp_path / "data")
    rows = judge_touches(tmp_path)
    write_credits(tmp_path, rows, rows["truth"].to_numpy())
    decision, evaluation = judge(tmp_path)
    assert decision.verdict == "rejected"
    assert decision.reasons[0] == "no mediator evidence: the logs hold no responses to touchpoints"
    identified = {item["what"]: item["identified"] for item in evaluation["identification"]}
    assert not identified["mediator evidence"]
    assert not identified["observed confounders (profiles)"]
    assert {key["judge"] for key in evaluation["gate"]["keys"]} == {"OBS"}


def splitmix64(user: int) -> int:
    mask = 2**64 - 1
    z = (user + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_shards_are_stable_and_even() -> None:
    """The hash must not move between machines or versions: stored gates are replayed."""
    first = 0xE220A8397B1DCDAF  # what splitmix64's authors publish for seed 0
    assert shard_of(np.array([0])).tolist() == [first % 1_000]
    assert shard_of(np.array([1, 2, -1])).tolist() == [splitmix64(user) % 1_000 for user in (1, 2, -1)]
    counts = np.bincount(shard_of(np.arange(100_000)), minlength=1_000)
    assert counts.min() > 50
    assert counts.max() < 160


def test_config_names_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"judge\.buckets"):
        JudgeConfig(buckets=0)
