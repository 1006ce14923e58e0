"""The randomised judge on worlds whose other exposures follow hidden intent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from confounded_world import confounded_world
from scipy.special import expit

from validation.falsification import randomised_audit
from validation.gate import Key
from validation.judge_arrays import SHARDS, JudgeArrays
from validation.measured import JudgeConfig, measure
from validation.uplift import Uplift
from validation.uplift_randomised import uplift_randomised

CLUSTERS, TOUCHES = 6, 8
CONFIG = JudgeConfig(buckets=1, replicates=60, half_pairs=2)


def slice_world(journeys: int, seed: int, share: float = 0.5) -> tuple[JudgeArrays, np.ndarray]:
    """Intent W shows cluster k more where effects are small; `share` of the touches is drawn by fixed odds instead.

    Returns the arrays and the true mean effect of a random touch per cluster (decay 1), which raw rates turn around.
    """
    rng = np.random.default_rng(seed)
    J, K, L = journeys, CLUSTERS, TOUCHES
    effect_K = np.linspace(0.0, 0.5, K)
    w_J = rng.standard_normal(J)
    taste_JK = np.exp(-2.0 * w_J[:, None] * (effect_K - effect_K.mean()))
    odds_K = np.arange(1.0, K + 1)

    def draw(weight_JK: np.ndarray) -> np.ndarray:
        cumulative_JK = np.cumsum(weight_JK, axis=1) / weight_JK.sum(axis=1, keepdims=True)
        return (rng.random((J, L, 1)) > cumulative_JK[:, None, :]).sum(axis=2)

    random_JL = rng.random((J, L)) < share
    column_JL = np.where(random_JL, draw(np.broadcast_to(odds_K, (J, K))), draw(taste_JK))
    logit_J = -3.5 + effect_K[column_JL].sum(axis=1) + 1.5 * w_J
    y_J = (rng.random(J) < expit(logit_J)).astype(float)
    without_JL = expit(logit_J[:, None] - effect_K[column_JL])
    gain_JL = expit(logit_J)[:, None] - without_JL
    drawn_N, gain_N = column_JL[random_JL], gain_JL[random_JL]
    truth_K = np.bincount(drawn_N, gain_N, K) / np.maximum(np.bincount(drawn_N, minlength=K), 1)
    journey_T, column_T = np.repeat(np.arange(J), L), column_JL.ravel()
    dose_JK = np.bincount(journey_T * K + column_T, minlength=J * K).reshape(J, K).astype(float)
    data = JudgeArrays(
        shard_J=rng.integers(0, SHARDS, J),
        y_J=y_J,
        n_J=np.zeros(J),
        covered_J=np.full(J, 28.0),
        x_JP=np.zeros((J, 0)),
        cluster_K=np.arange(K),
        dose_JK=dose_JK,
        post_JK=None,
        journey_T=journey_T,
        column_T=column_T,
        decay_T=np.ones(J * L),
        response_TR=None,
        randomised_T=random_JL.ravel(),
    )
    return data, truth_K


def judged(data: JudgeArrays) -> tuple[Uplift | None, Uplift]:
    """The randomised judge and raw."""
    measured = measure(data, CONFIG)
    found = {uplift.judge: uplift for uplift in measured.judges}
    return found.get("randomised"), found["raw"]


def test_it_finds_the_effects_that_raw_rates_turn_upside_down() -> None:
    data, truth_K = slice_world(40_000, seed=1)
    randomised, raw = judged(data)
    assert randomised is not None
    assert not randomised.usable
    assert np.corrcoef(randomised.sample[0], truth_K)[0, 1] > 0.9
    assert np.corrcoef(raw.sample[0], truth_K)[0, 1] < 0


def test_it_is_unbiased_and_knows_its_error() -> None:
    """Contrast of the last cluster against the first, over independent data sets: mean of z near 0, spread near 1."""
    z = []
    for seed in range(12):
        data, truth_K = slice_world(6_000, seed=100 + seed)
        randomised, _ = judged(data)
        assert randomised is not None
        contrast_R = randomised.u_RBK[:, 0, -1] - randomised.u_RBK[:, 0, 0]
        boot_R = contrast_R[1 + 2 * CONFIG.half_pairs :]
        z.append((contrast_R[0] - (truth_K[-1] - truth_K[0])) / boot_R.std(ddof=1))
    assert abs(np.mean(z)) < 3 / np.sqrt(12)
    assert 0.5 < np.std(z, ddof=1) < 1.7


def test_touches_that_were_not_drawn_at_random_do_not_count() -> None:
    """Other touches may lie anywhere: only the random ones and the outcome are read."""
    data, _ = slice_world(4_000, seed=2)
    assert data.randomised_T is not None
    rng = np.random.default_rng(0)
    other_T = np.where(data.randomised_T, data.column_T, rng.integers(0, CLUSTERS, len(data.column_T)))
    measured = measure(data, CONFIG)
    parts = (measured.buckets, measured.exposure, measured.replicates, measured.basis_JF)
    before, after = (uplift_randomised(one, *parts) for one in (data, replace(data, column_T=other_T)))
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(before.u_RBK, after.u_RBK)


def test_a_cluster_never_drawn_has_the_mean() -> None:
    data, _ = slice_world(4_000, seed=3)
    assert data.randomised_T is not None
    randomised, _ = judged(replace(data, randomised_T=data.randomised_T & (data.column_T != 2)))
    assert randomised is not None
    assert (randomised.u_RBK[:, :, 2] == 0).all()
    assert np.isfinite(randomised.u_RBK).all()


@pytest.mark.parametrize("share", [0.0, 0.001])
def test_without_enough_random_touches_there_is_no_audit(share: float) -> None:
    data, _ = slice_world(4_000, seed=4, share=share)
    assert judged(data)[0] is None
    assert judged(replace(data, randomised_T=None))[0] is None


def key(delta: float, se: float) -> Key:
    return Key(
        judge="x", usable=True, note="", delta=delta, se=se, delta_b=(), se_b=(), share_b=(), area=0.0, area_se=0.0,
        oracle=1.0, luck=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("delta", "verdict"), [(-2.0, "fail"), (-1.0, "no power"), (1.0, "no power"), (2.0, "no power")]
)
def test_a_wide_audit_only_ever_speaks_against(delta: float, verdict: str) -> None:
    """The keys measure 1, the audit's standard error is 1: it could not see that."""
    finding = randomised_audit(key(delta, 1.0), [key(1.0, 0.1)], "champion")
    assert finding.verdict == verdict
    assert (finding.blocks is not None) == (verdict == "fail")


def test_a_narrow_audit_can_pass() -> None:
    assert randomised_audit(key(0.9, 0.2), [key(1.0, 0.1)], "champion").verdict == "pass"
    against = randomised_audit(key(-0.9, 0.2), [key(1.0, 0.1)], "champion v3")
    assert against.blocks is not None
    assert "worse than champion v3" in against.blocks.reason


def test_worlds_without_the_mark_are_judged_as_before() -> None:
    assert all(uplift.judge != "randomised" for uplift in measure(confounded_world(3_000, seed=5).data, CONFIG).judges)
