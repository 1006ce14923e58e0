"""A response that the upload itself sets is found, an honest one is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from confounded_world import confounded_world

from validation.buckets import profile_basis
from validation.falsification import FalsificationConfig, Finding, leakage
from validation.falsification.leakage import journey_features
from validation.judge_arrays import JudgeArrays

CONFIG = FalsificationConfig()


@pytest.fixture(scope="module")
def honest() -> JudgeArrays:
    return confounded_world(6_000, seed=31).data


def leaked(data: JudgeArrays, *, everywhere: bool = False) -> JudgeArrays:
    """The like is switched on by the upload: at the last touch in nine of ten, or at every touch."""
    assert data.response_TR is not None
    last_T = np.diff(data.journey_T, append=len(data.y_J)) > 0
    nine_of_ten_T = np.random.default_rng(0).random(len(last_T)) < 0.9
    switched_T = (last_T & nine_of_ten_T | everywhere) & (data.y_J[data.journey_T] > 0)
    response_TR = data.response_TR.copy()
    response_TR[switched_T, 1] = response_TR[:, 1].max()
    return replace(data, response_TR=response_TR)


def found(data: JudgeArrays, u_T: np.ndarray | None = None) -> dict[str, Finding]:
    findings = leakage(data, profile_basis(data.x_JP), u_T, CONFIG)
    return {finding.test.removeprefix("leakage, "): finding for finding in findings}


def test_honest_responses_pass_and_the_trusted_one_is_not_tested(honest: JudgeArrays) -> None:
    findings = found(honest)
    assert list(findings) == ["liked"]
    assert findings["liked"].verdict == "pass"
    assert findings["liked"].statistic is not None
    assert findings["liked"].statistic < 0.02


def test_a_consequence_of_the_upload_blocks(honest: JudgeArrays) -> None:
    finding = found(leaked(honest))["liked"]
    assert finding.verdict == "fail"
    assert finding.blocks is not None
    assert finding.blocks.verdict == "rejected"
    assert "consequence" in finding.blocks.reason


def test_a_leak_that_training_left_out_warns_and_does_not_block(honest: JudgeArrays) -> None:
    data = leaked(honest)
    assert data.response_TR is not None
    handled = replace(
        data, response_TR=data.response_TR[:, :1], response_names=("watch_ratio",),
        ignored={"liked": data.response_TR[:, 1]},
    )  # fmt: skip
    finding = found(handled)["liked"]
    assert (finding.verdict, finding.blocks) == ("warn", None)
    assert finding.statistic is not None
    assert finding.statistic > CONFIG.leakage


def test_an_index_that_reads_a_leak_blocks_though_every_response_is_clean(honest: JudgeArrays) -> None:
    data = leaked(honest)
    assert data.response_TR is not None
    assert honest.response_TR is not None
    assert found(honest, honest.response_TR.sum(axis=1))["the model's index"].blocks is None
    assert found(honest, data.response_TR.sum(axis=1))["the model's index"].blocks is not None


def test_without_a_trusted_response_only_a_gross_leak_fails(honest: JudgeArrays) -> None:
    """Beyond controls alone honest watching explains a good deal, so the threshold is higher."""
    unnamed = found(replace(honest, response_names=()))
    assert {finding.verdict for finding in unnamed.values()} == {"pass"}
    assert {finding.threshold for finding in unnamed.values()} == {CONFIG.leakage_untrusted}
    assert found(replace(leaked(honest, everywhere=True), response_names=()))["response 2"].blocks is not None


def test_nothing_is_tested_where_nobody_uploads(honest: JudgeArrays) -> None:
    assert found(replace(honest, y_J=np.zeros_like(honest.y_J))) == {}


def test_journey_features_by_hand(honest: JudgeArrays) -> None:
    """Touches (1, 2, 4) and (3, 5) with decay ½: sums 3.5 and 4, means 7/3 and 4, last two 6 and 8."""
    data = replace(
        honest, y_J=np.zeros(2), journey_T=np.array([0, 0, 0, 1, 1]), decay_T=np.full(5, 0.5),
    )  # fmt: skip
    features = journey_features(np.array([1.0, 2.0, 4.0, 3.0, 5.0]), data)
    np.testing.assert_allclose(features, [[-1, -1, -1], [1, 1, 1]], atol=1e-6)
    unequal = journey_features(np.array([0.0, 0.0, 4.0, 3.0, 0.0]), data)
    np.testing.assert_allclose(unequal, [[1, -1, 1], [-1, 1, -1]], atol=1e-6)
