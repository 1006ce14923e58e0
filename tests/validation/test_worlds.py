"""What every world promises: logs in the contract, determinism by seed, confounding where it says so."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import ConfigError
from features.reader import open_logs
from validation.worlds import (
    JUDGE_REPORT_WORLDS,
    JUDGE_WORLDS,
    REPORT_WORLDS,
    WORLDS,
    LogitWorld,
    World,
    simulate,
    simulation,
)
from validation.worlds.base import Constants, Outcome, Sessions
from validation.worlds.competing_risk import CompetingRiskWorld
from validation.worlds.constants import draw_constants
from validation.worlds.heavy_tailed import HeavyTailedWorld
from validation.worlds.outcome import draw_outcome, draw_responses
from validation.worlds.saturating import SaturatingWorld
from validation.worlds.sessions import draw_sessions

HARMLESS = {"no-confounding"}
VIOLATED = {"direct-path", "direct-path-and-feedback"}


def some(world: World, users: int = 2_000, seed: int = 5) -> tuple[Constants, Sessions, Outcome]:
    constants = draw_constants(world, seed, None)
    rng = np.random.default_rng(2)
    sessions = draw_sessions(world, constants, users, rng)
    sessions, upload_US = world.decide_uploads(constants, sessions, rng)
    return constants, sessions, draw_outcome(world, constants, sessions, upload_US, rng)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "worlds", [WORLDS | JUDGE_WORLDS, REPORT_WORLDS | JUDGE_REPORT_WORLDS], ids=["selection", "report"]
)
@pytest.mark.parametrize("name", [*WORLDS, *JUDGE_WORLDS])
def test_logs_keep_the_contract(name: str, worlds: dict[str, World], tmp_path: Path) -> None:
    world = worlds[name]
    simulate(world, 150, 1, tmp_path)
    logs = open_logs(tmp_path)
    expected = ("liked",) if name == "weak-responses" else ("watch_ratio", "liked", "template_tapped")
    assert {*logs.responses} == {*expected, *(["shared"] if name == "leaky-proxy" else [])}
    assert logs.embedding_dim == world.embedding_dim
    touches = pd.read_parquet(tmp_path / "touchpoints")
    truth = pd.read_parquet(tmp_path / "truth" / "touchpoints")
    keys = ["user_id", "item_id", "ts"]
    pd.testing.assert_frame_equal(touches[keys], truth[keys])
    assert truth["delta"].abs().max() < 1
    journeys = pd.read_parquet(tmp_path / "truth" / "journeys")
    assert len(journeys) == 150 * world.sessions
    assert journeys[["p_do", "p_do_none"]].apply(lambda p: p.between(0, 1)).all(axis=None)
    described = json.loads((tmp_path / "truth" / "world.json").read_text())
    assert described["front_door_holds"] == (name not in VIOLATED)
    assert described["confounded"] == (name not in HARMLESS)
    assert described["world"] == json.loads(json.dumps(asdict(world)))
    assert (described["users"], described["seed"]) == (150, 1)


def test_report_worlds_have_other_parameters_and_the_same_first_stated_effects() -> None:
    assert list(REPORT_WORLDS) == list(WORLDS)
    assert list(JUDGE_REPORT_WORLDS) == list(JUDGE_WORLDS)
    for name, world in (WORLDS | JUDGE_WORLDS).items():
        reported = (REPORT_WORLDS | JUDGE_REPORT_WORLDS)[name]
        assert type(reported) is type(world)
        for field in ("clusters", "items", "embedding_dim", "touches", "affinity", "affinity_corr", "decay_hours"):
            if (name, field) != ("variable-length", "touches"):  # 1 to 64 in both
                assert getattr(reported, field) != getattr(world, field)
        assert reported.affinity < 1.2
    for field in ("effect_scale", "effect_mean", "effect_shape", "personal_sd"):
        assert getattr(REPORT_WORLDS["logit"], field) == getattr(LogitWorld(), field)


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(WORLDS["leaky-proxy"], 60, seed, tmp_path / folder)
    a, b, c = (contents(tmp_path / folder) for folder in "abc")
    assert a == b
    assert all(a[name] != c[name] for name in a)


def test_chunks_of_users_make_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "TOUCHES_PER_CHUNK", 64 * 20)
    simulate(WORLDS["logit"], 50, 1, tmp_path)
    open_logs(tmp_path)
    users = pd.read_parquet(tmp_path / "touchpoints")["user_id"]
    assert users.value_counts(sort=False).to_dict() == dict.fromkeys(range(50), 64)
    x = pd.read_parquet(tmp_path / "users")["x0"]
    assert x.is_unique


@pytest.mark.parametrize("name", ["logit", "drift", "direct-path"])
def test_a_randomised_copy_is_the_same_world_with_other_people(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    copy = replace(world, randomised_share=1.0)
    assert not copy.confounded
    ours, theirs = draw_constants(world, 5, None), draw_constants(copy, 5, None)
    for field in fields(Constants):
        np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name))
    simulate(world, 100, 5, tmp_path / "observed")
    simulate(copy, 100, 5, tmp_path / "randomised")
    assert contents(tmp_path / "observed" / "items") == contents(tmp_path / "randomised" / "items")
    observed, randomised = (pd.read_parquet(tmp_path / folder / "users")["x0"] for folder in ("observed", "randomised"))
    assert not set(observed) & set(randomised)
    assert "randomised" not in pd.read_parquet(tmp_path / "observed" / "touchpoints")
    assert pd.read_parquet(tmp_path / "randomised" / "touchpoints")["randomised"].all()


def test_a_share_of_randomised_touches_is_marked(tmp_path: Path) -> None:
    simulate(replace(WORLDS["logit"], randomised_share=0.05), 1_000, 5, tmp_path)
    assert open_logs(tmp_path).has_randomised
    marked = pd.read_parquet(tmp_path / "touchpoints")["randomised"]
    assert marked.mean() == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / len(marked)))


def intent_and_inspiration(world: World) -> float:
    """Correlation over users of W with the mean effect of what they were shown."""
    constants, sessions, _ = some(world)
    return float(np.corrcoef(sessions.w_U, constants.beta_K[sessions.cluster_USL].mean((1, 2)))[0, 1])


def test_intent_steers_exposure_as_the_world_says() -> None:
    assert intent_and_inspiration(WORLDS["logit"]) < -0.3
    assert intent_and_inspiration(WORLDS["same-direction"]) > 0.3
    assert abs(intent_and_inspiration(replace(WORLDS["logit"], randomised_share=1.0))) < 0.1
    assert abs(intent_and_inspiration(replace(WORLDS["logit"], affinity=0.0))) < 0.1


def test_intent_drives_uploads_unless_it_does_not() -> None:
    """Uploads of people with W = 1 against those with W = −1, all else equal."""
    for name, ratio in (("logit", 5.0), ("competing-risk", 3.0), ("no-confounding", 1.0)):
        constants, sessions, _ = some(WORLDS[name])
        high, low = (
            WORLDS[name]
            .upload_probability(constants.intercept, replace(sessions, w_U=np.full_like(sessions.w_U, w)))
            .mean()
            for w in (1.0, -1.0)
        )
        assert (high > ratio * low) if ratio > 1 else (high == low), name


@pytest.mark.parametrize("name", list(WORLDS))
def test_sessions_end_in_uploads_at_the_stated_rate(name: str) -> None:
    _, sessions, outcome = some(WORLDS[name], 5_000)
    assert len(outcome.row_N) / sessions.base_US.size == pytest.approx(WORLDS[name].upload_rate, abs=0.012)


def test_contamination_shifts_all_responses_of_a_user() -> None:
    corr = {}
    for name in ("logit", "contaminated"):
        constants, s, outcome = some(WORLDS[name])
        watch = draw_responses(WORLDS[name], constants, s, outcome, np.random.default_rng(1))["watch_ratio"]
        corr[name] = np.corrcoef(s.w_U, watch.mean((1, 2)))[0, 1]
    assert corr["contaminated"] > 0.8
    assert abs(corr["logit"]) < 0.3


def test_flags_are_flipped_as_often_as_stated() -> None:
    world = WORLDS["weak-responses"]
    constants, s, outcome = some(world)
    clean, noisy = (
        draw_responses(replace(world, flip_share=share), constants, s, outcome, np.random.default_rng(1))["liked"]
        for share in (0.0, world.flip_share)
    )
    flipped = (clean != noisy).mean()
    assert flipped == pytest.approx(world.flip_share, abs=4 * np.sqrt(world.flip_share / clean.size))


def test_sessions_vary_in_length(tmp_path: Path) -> None:
    simulate(WORLDS["variable-length"], 1_000, 5, tmp_path)
    truth = pd.read_parquet(tmp_path / "truth" / "touchpoints")
    length = truth.groupby(["user_id", "t_obs"]).size()
    assert (length.min(), length.max()) == (1, 64)
    assert length.mean() == pytest.approx(32.5, abs=4 * 18.5 / np.sqrt(len(length)))
    journeys = pd.read_parquet(tmp_path / "truth" / "journeys")
    assert len(length) == len(journeys) == 4_000
    assert (truth.groupby(["user_id", "t_obs"])["ts"].max() == truth.groupby(["user_id", "t_obs"])["t_obs"].max()).all()
    lifted = journeys.set_index(["user_id", "t_obs"]).eval("p_do - p_do_none")
    assert np.corrcoef(lifted.loc[length.index], length)[0, 1] > 0.5


def test_drift_moves_exposure_and_base_rate_but_not_effects() -> None:
    """Cluster shares of the first and the last session differ more than those of one world's sessions do by chance."""
    moved, uploads = {}, {}
    for name in ("logit", "drift"):
        constants, s, outcome = some(WORLDS[name], 4_000)
        first, last = (np.bincount(s.cluster_USL[:, session].ravel(), minlength=40) for session in (0, -1))
        moved[name] = np.abs(first - last).sum() / first.sum()
        uploads[name] = np.bincount(outcome.session_N)
        np.testing.assert_allclose(constants.kappa_SK.std(1), 1.0, atol=0.35)
    assert moved["drift"] > 3 * moved["logit"]
    assert uploads["drift"][-1] > 1.3 * uploads["drift"][0]
    assert uploads["logit"][-1] < 1.2 * uploads["logit"][0]


def test_drift_is_tested_on_the_later_sessions(tmp_path: Path) -> None:
    assert WORLDS["logit"].test_from_day is None
    simulate(WORLDS["drift"], 50, 5, tmp_path)
    described = json.loads((tmp_path / "truth" / "world.json").read_text())
    t_obs = pd.read_parquet(tmp_path / "truth" / "journeys")["t_obs"]
    days = (t_obs - pd.Timestamp("2026-01-01")) / pd.Timedelta(days=1)
    assert (days < described["test_from_day"]).sum() == (days > described["test_from_day"]).sum() == 100


def test_heavy_tails_hold_most_of_the_effect_and_some_harm() -> None:
    world = HeavyTailedWorld(tail_df=2.0, tail_scale=1.2)
    beta = np.concatenate([draw_constants(world, seed, None).beta_K for seed in range(5)])
    gamma = np.concatenate([draw_constants(LogitWorld(), seed, None).beta_K for seed in range(5)])
    assert beta.min() < -0.1
    assert np.abs(beta).max() <= 0.08 * 1.2 * world.tail_cap
    share = [np.sort(np.abs(b))[-10:].sum() / np.abs(b).sum() for b in (beta, gamma)]
    assert share[0] > 1.5 * share[1]


def test_competing_risks_never_inhibit() -> None:
    constants, s, _ = some(CompetingRiskWorld())
    assert s.mediator_USL.min() >= 0
    assert s.mediator_USL.mean() == pytest.approx(s.mean_USL.mean(), rel=0.02)
    truth = CompetingRiskWorld().truth(constants.intercept, s)
    assert (truth.p_do_US[..., None] >= truth.p_without_USL).all()


def test_responses_show_nothing_of_the_direct_path() -> None:
    """Responses are a function of mediator, intent and luck; without the direct path they are the same."""
    world = WORLDS["direct-path"]
    constants, s, outcome = some(world)
    plain, plain_s, _ = some(replace(world, direct_effect=0.0))
    assert np.abs(constants.psi_K).max() > 0.1
    assert not plain.psi_K.any()
    assert not np.allclose(world.upload_probability(-4.0, s), world.upload_probability(-4.0, plain_s)), (
        "the direct path must matter"
    )
    seen, unseen = (
        draw_responses(world, constants, drawn, outcome, np.random.default_rng(1)) for drawn in (s, plain_s)
    )
    for name in seen:
        np.testing.assert_array_equal(seen[name], unseen[name])
    assert abs(np.corrcoef(constants.psi_K, constants.beta_K)[0, 1]) < 0.5


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"affinity_corr": 1.5}, "affinity_corr = 1.5"),
        ({"responses": ("liked", "smiled")}, "smiled"),
        ({"shortest_session": 17}, "shortest_session = 17"),
        ({"sessions": 9}, "sessions = 9"),
    ],
)
def test_impossible_parameters_are_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        LogitWorld(**changes)  # type: ignore[arg-type]


def test_families_refuse_what_only_they_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="saturation = 0"):
        SaturatingWorld(saturation=0.0)
    with pytest.raises(ConfigError, match="mediator_shape = 0"):
        CompetingRiskWorld(mediator_shape=0.0)
    with pytest.raises(ConfigError, match="template_tapped"):
        replace(WORLDS["leaky-response"], responses=("liked",))
    with pytest.raises(ConfigError, match="sessions = 1"):
        replace(WORLDS["drift"], sessions=1)
    with pytest.raises(ConfigError, match=r"upload_rate = 0\.01: the content alone makes"):
        simulate(CompetingRiskWorld(upload_rate=0.01), 50, 1, tmp_path)
    with pytest.raises(ConfigError, match="users = 3"):
        simulate(LogitWorld(), 3, 1, tmp_path)
