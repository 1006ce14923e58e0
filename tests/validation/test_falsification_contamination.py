"""Intent that lifts the responses to some clusters is found; intent that lifts all alike is left to the pooled test."""

from __future__ import annotations

import numpy as np
import pytest
from confounded_world import confounded_world

from validation.buckets import profile_basis
from validation.falsification import FalsificationConfig, Finding, contamination_by_cluster
from validation.falsification.residuals import content_residual, within_residual
from validation.judge_arrays import JudgeArrays

CONFIG = FalsificationConfig()


def judged(data: JudgeArrays) -> Finding:
    return contamination_by_cluster(data, profile_basis(data.x_JP), data.responses["watch_ratio"], CONFIG)


@pytest.mark.parametrize(
    ("flat", "by_cluster", "verdict"), [(0.0, 0.0, "pass"), (0.7, 0.0, "pass"), (0.0, 0.3, "warn")]
)
def test_only_what_differs_by_cluster_is_flagged(flat: float, by_cluster: float, verdict: str) -> None:
    world = confounded_world(12_000, seed=51, contamination=flat, cluster_contamination=by_cluster)
    finding = judged(world.data)
    assert finding.verdict == verdict
    assert finding.blocks is None


def test_few_journeys_have_no_power() -> None:
    assert judged(confounded_world(600, seed=52, cluster_contamination=0.3).data).verdict == "no power"


def test_the_threshold_grows_with_the_sample() -> None:
    """1 + 7 J / 200,000, but never under the 99.9% point of χ²/df: 1.85 for 39 degrees of freedom."""
    small, large = (judged(confounded_world(J, seed=53).data).threshold for J in (2_000, 40_000))
    assert small == pytest.approx(1.848, abs=1e-3)
    assert large == pytest.approx(1 + 7 * 0.2)


def test_residuals_against_a_direct_fit() -> None:
    """Cluster x profile, with and without journey effects, by least squares on all dummies."""
    data = confounded_world(80, seed=54, clusters=4, profiles=1).data
    basis_JF, value_T = profile_basis(data.x_JP), data.responses["watch_ratio"]
    content_Tp = (np.eye(4)[data.column_T][:, :, None] * basis_JF[data.journey_T][:, None, :]).reshape(len(value_T), -1)
    both_Tp = np.concatenate([content_Tp, np.eye(80)[data.journey_T]], axis=1)

    def left(design_Tp: np.ndarray) -> np.ndarray:
        return np.asarray(value_T - design_Tp @ np.linalg.lstsq(design_Tp, value_T, rcond=None)[0])

    without = content_residual(value_T, data.column_T, data.journey_T, basis_JF)
    np.testing.assert_allclose(without, left(content_Tp), atol=1e-4)
    within = within_residual(value_T, data, basis_JF)
    np.testing.assert_allclose(within, left(both_Tp), atol=2e-2)
    np.testing.assert_allclose(np.bincount(data.journey_T, within), 0, atol=1e-9)
