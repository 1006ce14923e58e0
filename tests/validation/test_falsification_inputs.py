"""Overlap, drift and calibration: the tests of what goes into the model and of what it says of the facts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from features.errors import ConfigError
from validation.falsification import FalsificationConfig, calibration, calibration_curve, drift, positivity, psi

CONFIG = FalsificationConfig()


@pytest.mark.parametrize(
    ("abstaining", "verdict", "blocks"), [(0.05, "pass", False), (0.3, "warn", False), (0.8, "fail", True)]
)
def test_credits_that_mostly_abstain_cannot_be_approved(abstaining: float, verdict: str, blocks: bool) -> None:
    abstained_T = np.arange(100) < 100 * abstaining
    finding = positivity(np.where(abstained_T, 3.0, 40.0), abstained_T.astype(float), CONFIG)
    assert finding.verdict == verdict
    assert finding.statistic == pytest.approx(abstaining)
    assert (finding.blocks is not None) == blocks
    if finding.blocks is not None:
        assert finding.blocks.verdict == "inconclusive"


def test_psi_by_hand() -> None:
    """Shares (.5, .5) -> (.8, .2): .3 ln 1.6 − .3 ln .4 = .3 ln 4; an empty bin counts as half a case."""
    assert psi([50, 50], [80, 20]) == pytest.approx(0.3 * np.log(4))
    assert psi([30, 70], [30, 70]) == 0
    assert np.isfinite(psi([100, 0], [50, 50]))


def snapshots(now: dict[str, list[int]], journeys: int = 1_000) -> dict[str, Any]:
    then = {"clusters": {"cluster": [500, 500]}, "responses": {"liked": [900, 100], "saved": [500, 500]}, "profile": {}}
    later = {**then, "responses": then["responses"] | now}
    return {"champion": {"journeys": journeys, **then}, "logs": {"journeys": journeys, **later}}


def test_the_input_that_moved_most_is_named() -> None:
    findings = {finding.test: finding for finding in drift(snapshots({"saved": [900, 100]}), CONFIG)}
    assert set(findings) == {"drift, clusters", "drift, responses"}
    assert findings["drift, clusters"].verdict == "pass"
    assert findings["drift, responses"].verdict == "warn"
    assert "saved" in findings["drift, responses"].meaning
    assert findings["drift, responses"].blocks is None


def test_drift_needs_a_champion_and_enough_journeys() -> None:
    assert drift({}, CONFIG) == []
    assert {finding.verdict for finding in drift(snapshots({}, journeys=20), CONFIG)} == {"no power"}


def facts(journeys: int, slope: float, shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p as the model says, y by slope · logit p + shift."""
    rng = np.random.default_rng(7)
    logit_J = rng.normal(-1.5, 1.2, journeys)
    y_J = (rng.random(journeys) < expit(slope * logit_J + shift)).astype(float)
    return expit(logit_J), y_J, rng.integers(0, 1_000, journeys)


@pytest.mark.parametrize(
    ("journeys", "slope", "shift", "verdicts"),
    [
        (20_000, 1.0, 0.0, ["pass", "pass"]),
        (20_000, 0.5, -0.52, ["warn", "pass"]),
        (20_000, 1.0, 0.5, ["pass", "warn"]),
        (100, 1.0, 0.0, ["no power", "no power"]),
    ],
    ids=["calibrated", "overconfident", "too low", "too few"],
)
def test_calibration_tells_slope_from_level(journeys: int, slope: float, shift: float, verdicts: list[str]) -> None:
    findings = calibration(*facts(journeys, slope, shift), CONFIG)
    assert [finding.verdict for finding in findings] == verdicts
    assert all(finding.blocks is None for finding in findings)


def test_calibration_finds_slope_and_shift() -> None:
    off, level = calibration(*facts(200_000, 0.8, 0.0), CONFIG)
    assert off.statistic == pytest.approx(-0.2, abs=0.02)
    _, level = calibration(*facts(200_000, 1.0, 0.1), CONFIG)
    assert level.statistic == pytest.approx(0.1, abs=0.02)


def test_nothing_to_calibrate_where_nobody_uploads() -> None:
    p_J, _, shard_J = facts(100, 1.0, 0.0)
    assert calibration(p_J, np.zeros(100), shard_J, CONFIG) == []
    assert calibration(np.full(100, 0.1), np.arange(100) % 2.0, shard_J, CONFIG) == []


def test_the_curve_by_hand() -> None:
    """Twenty journeys in tenths of two; the highest two both upload: Wilson's interval is [z²-shrunk, 1]."""
    p_J = np.arange(20) / 20
    y_J = (p_J >= 0.9).astype(float)
    points = calibration_curve(p_J, y_J)
    assert [point["journeys"] for point in points] == [2] * 10
    assert [point["observed"] for point in points] == [0.0] * 9 + [1.0]
    assert points[-1]["predicted"] == pytest.approx(0.925)
    assert points[-1]["low"] == pytest.approx(1 / (1 + 1.959964**2 / 2), abs=1e-6)
    assert points[-1]["high"] == pytest.approx(1.0)


def test_thresholds_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="positive"):
        FalsificationConfig(drift_psi=0.0)
    with pytest.raises(ConfigError, match="abstained_fail"):
        FalsificationConfig(abstained_warn=0.6)
