"""The battery on worlds where each assumption holds and where it breaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from confounded_world import ConfoundedWorld, confounded_world

from validation.falsification import (
    FalsificationConfig,
    Finding,
    agreement,
    cell_size,
    contamination,
    direct_path,
    mediator_relevance,
    post_window,
    run_battery,
)
from validation.judge_arrays import Exposure, JudgeArrays
from validation.judge_data import Diagnostics
from validation.measured import JudgeConfig, measure
from validation.shards import draw_replicates
from validation.uplift import Uplift
from validation.uplift_obs import Obs

CONFIG = FalsificationConfig()


@pytest.fixture(scope="module")
def world() -> ConfoundedWorld:
    return confounded_world(14_000, seed=21)


def residual(data: JudgeArrays) -> np.ndarray:
    """First response less its cluster's mean: what content does not explain."""
    assert data.response_TR is not None
    u_T = data.response_TR[:, 0]
    mean_K = np.bincount(data.column_T, u_T) / np.bincount(data.column_T)
    return u_T - mean_K[data.column_T]


def battery(data: JudgeArrays) -> dict[str, Finding]:
    measured = measure(data, JudgeConfig(replicates=40, half_pairs=2))
    residual_T = residual(data)
    residual_J = np.bincount(data.journey_T, data.decay_T * residual_T, len(data.y_J))
    diagnostics = Diagnostics(u_T=residual_T, m_T=np.zeros_like(residual_T), residual_J=residual_J, p_obs_J=None)
    findings = run_battery(
        data=data,
        basis_JF=measured.basis_JF,
        buckets=measured.buckets,
        exposure=measured.exposure,
        replicates=measured.replicates,
        obs=measured.obs,
        fd=measured.fd,
        diagnostics=diagnostics,
        config=CONFIG,
    )
    return {finding.test: finding for finding in findings}


def test_a_valid_world_is_not_blocked(world: ConfoundedWorld) -> None:
    findings = battery(world.data)
    assert [name for name, finding in findings.items() if finding.blocks] == []
    assert findings["mediator relevance, pooled"].verdict == "pass"
    assert findings["mediator relevance, within journeys"].verdict == "pass"
    assert findings["negative control relevance"].verdict == "pass"
    assert findings["cell size"].verdict == "pass"
    assert findings["contaminated responses"].verdict == "pass"


def test_without_an_effect_relevance_fails_and_blocks() -> None:
    findings = battery(confounded_world(14_000, seed=22, effect=0.0).data)
    blocked = findings["mediator relevance, pooled"]
    assert blocked.verdict == "fail"
    assert blocked.blocks is not None
    assert blocked.blocks.reason.startswith("no mediator evidence")


def test_relevance_t_is_standard_normal_for_noise(world: ConfoundedWorld) -> None:
    """A residual that has nothing to do with y: |t| is under 3, whatever x and the touches do."""
    rng = np.random.default_rng(0)
    noise_T = rng.standard_normal(len(world.truth_T))
    basis_JF = np.ones((len(world.data.y_J), 1))
    for finding in mediator_relevance(world.data, basis_JF, noise_T, CONFIG):
        assert finding.statistic is not None
        assert abs(finding.statistic) < 3


def test_touches_close_in_time_leave_the_within_test_without_power(world: ConfoundedWorld) -> None:
    """All decays alike: a journey's demeaned residuals sum to nothing."""
    data = replace(world.data, decay_T=np.full_like(world.data.decay_T, 0.9))
    pooled, within = mediator_relevance(data, np.ones((len(data.y_J), 1)), residual(data), CONFIG)
    assert pooled.verdict == "pass"
    assert within.verdict == "no power"
    assert within.blocks is None


def test_contaminated_responses_warn(world: ConfoundedWorld) -> None:
    data = world.data
    clean_J = np.bincount(data.journey_T, residual(data), len(data.y_J))
    dirty_J = clean_J + 2.0 * np.log1p(data.n_J)
    basis_JF = np.ones((len(data.y_J), 1))
    assert contamination(data, basis_JF, clean_J, CONFIG).verdict == "pass"
    assert contamination(data, basis_JF, dirty_J, CONFIG).verdict == "warn"


def test_few_journeys_make_contamination_powerless() -> None:
    data = confounded_world(400, seed=23, clusters=5).data
    rng = np.random.default_rng(0)
    finding = contamination(data, np.ones((400, 1)), rng.standard_normal(400), CONFIG)
    assert finding.verdict == "no power"


def test_small_cells_block_as_inconclusive_with_a_number() -> None:
    data = confounded_world(2_000, seed=24).data
    measured = measure(data, JudgeConfig(replicates=40, half_pairs=2))
    finding = cell_size(measured.buckets, 2_000, CONFIG)
    assert finding.verdict == "fail"
    assert finding.blocks is not None
    assert finding.blocks.verdict == "inconclusive"
    assert finding.blocks.journeys_needed == pytest.approx(2_000 * 2_500 / measured.buckets.median_treated, abs=1)


def _judges(correlation: float, noise: float, rng: np.random.Generator) -> tuple[Uplift, Uplift, Exposure]:
    """OBS and FD whose effects correlate by so much over 40 clusters, with sampling noise in every replicate."""
    f_K = rng.standard_normal(40)
    other_K = rng.standard_normal(40)
    other_K -= f_K * (f_K @ other_K) / (f_K @ f_K)
    other_K *= np.sqrt((f_K @ f_K) / (other_K @ other_K))
    o_K = correlation * f_K + np.sqrt(1 - correlation**2) * other_K
    rows = 1 + 4 + 200
    once = noise * rng.standard_normal((2, 1, 40))
    obs, fd = (
        mean_K + first + np.concatenate([np.zeros((1, 1, 40)), noise * rng.standard_normal((rows - 1, 1, 40))])
        for mean_K, first in zip((o_K, f_K), once, strict=True)
    )
    exposure = Exposure(w_BK=np.full((1, 40), 1 / 40), pi_B=np.ones(1), decay_B=np.ones(1))
    return (
        Uplift(judge="OBS", u_RBK=obs, usable=True, note=""),
        Uplift(judge="FD", u_RBK=fd, usable=True, note=""),
        exposure,
    )


def test_agreement_sees_through_noise() -> None:
    """Effects correlate by .8; noise of 70% of their spread would hide it (.54)."""
    replicates = draw_replicates(100, 200, half_pairs=2, seed=0)
    found = []
    for seed in range(20):
        obs, fd, exposure = _judges(0.8, 0.7, np.random.default_rng(seed))
        found.append(agreement(obs.u_RBK, fd.u_RBK, exposure, replicates)[1][0])
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize(
    ("correlation", "noise", "journeys", "verdicts"),
    [
        (0.97, 0.1, 200_000, {"pass"}),
        (0.5, 0.1, 200_000, {"fail"}),
        (0.5, 0.1, 20_000, {"no power"}),
        (0.85, 1.0, 200_000, {"pass", "warn", "no power"}),
    ],
    ids=["agree", "disagree", "disagree on few journeys", "too noisy to tell"],
)
def test_direct_path_blocks_only_what_is_sure(
    correlation: float, noise: float, journeys: int, verdicts: set[str]
) -> None:
    replicates = draw_replicates(100, 200, half_pairs=2, seed=0)
    obs, fd, exposure = _judges(correlation, noise, np.random.default_rng(1))
    findings = direct_path(obs, fd, exposure, replicates, journeys, CONFIG)
    assert findings[1].verdict in verdicts
    assert (findings[1].blocks is not None) == (verdicts == {"fail"})
    assert findings[0].blocks is None


def test_a_broken_control_accuses_the_feed_and_not_the_front_door() -> None:
    """OBS and FD disagree surely; with later exposures that follow uploads, that says nothing of a direct path."""
    replicates = draw_replicates(100, 200, half_pairs=2, seed=0)
    obs, fd, exposure = _judges(0.5, 0.1, np.random.default_rng(1))
    held, broken = (
        direct_path(obs, fd, exposure, replicates, 200_000, CONFIG, control_holds=holds)[1] for holds in (True, False)
    )
    assert (held.verdict, broken.verdict) == ("fail", "no power")
    assert broken.blocks is None


@pytest.mark.parametrize(("statistic", "verdict"), [(3.1, "pass"), (3.4, "fail")])
def test_later_exposures_that_follow_uploads_leave_the_gate_undecided(statistic: float, verdict: str) -> None:
    """The limit at 50,000 journeys is 1 + 9 / 4."""
    obs, _, _ = _judges(0.9, 0.1, np.random.default_rng(1))
    found = post_window(
        Obs(
            uplift=obs,
            plain=obs,
            alpha_R=np.ones(1),
            relevance=9.0,
            relevance_threshold=3.0,
            post_window=statistic,
            df=30,
        ),
        50_000,
        CONFIG,
    )
    assert found.verdict == verdict
    assert found.threshold == pytest.approx(3.25)
    assert (found.blocks is not None) == (verdict == "fail")
    assert found.blocks is None or found.blocks.verdict == "inconclusive"
