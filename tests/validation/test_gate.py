"""The gate as a table of cases: keys -> verdict and the first reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from features.errors import ConfigError
from validation.gate import Blocking, GateConfig, Key, decide, journeys_needed, replay, to_record


def key(judge: str, delta: float, *, se: float = 1.0, area: float = 20.0, **changes: Any) -> Key:
    base = Key(
        judge=judge,
        usable=True,
        note="",
        delta=delta,
        se=se,
        delta_b=(delta / 2, delta / 2),
        se_b=(se, se),
        share_b=(0.5, 0.5),
        area=area,
        area_se=1.0,
        oracle=25.0,
        luck=5.0,
    )
    return replace(base, **changes)


CASES = [
    ("one sure, other points up", [key("OBS", 3.0), key("FD", 0.1)], "approved", "better than v1 by both judges"),
    ("the other way round", [key("OBS", 0.1), key("FD", 3.0)], "approved", "better than v1 by both judges"),
    ("sure against a point below zero", [key("OBS", -0.1), key("FD", 3.0)], "inconclusive", "the judges disagree"),
    ("both up, none sure", [key("OBS", 1.0), key("FD", 1.5)], "inconclusive", "not surely better than v1; about"),
    ("both down", [key("OBS", -1.0), key("FD", -0.5)], "rejected", "not better than v1 by either judge"),
    ("surely worse by one", [key("OBS", -3.0), key("FD", 3.0)], "rejected", "worse than v1: OBS"),
    ("no effect", [key("OBS", 3.0, oracle=0.0), key("FD", 3.0, oracle=-1.0)], "rejected", "no effect"),
    ("one key only", [key("OBS", 3.0, usable=False, note="n"), key("FD", 9.0)], "inconclusive", "only FD can judge"),
    ("one measured key only", [key("FD", 9.0)], "inconclusive", "only FD can judge"),
    ("no key", [key("OBS", 3.0, usable=False)], "inconclusive", "no judge can be trusted"),
    (
        "a harmed bucket",
        [key("OBS", 3.0), key("FD", 3.0, delta_b=(6.0, -3.0), se_b=(1.0, 1.0))],
        "rejected",
        "bucket 1 is worse off than under v1 by FD",
    ),
    (
        "harm within the margin: −2.5 + 2.33 > −.02 · 25 · .5",
        [key("OBS", 3.0), key("FD", 3.0, delta_b=(5.5, -2.5), se_b=(1.0, 1.0))],
        "approved",
        "better than v1",
    ),
]


@pytest.mark.parametrize(("keys", "verdict", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_decisions_against_a_champion(keys: list[Key], verdict: str, reason: str) -> None:
    decision = decide(keys, champion="v1", journeys=1_000)
    assert decision.verdict == verdict
    assert decision.reasons[0].startswith(reason)
    assert all("\n" not in line for line in decision.reasons)


@pytest.mark.parametrize(
    ("area", "verdict", "reason"),
    [
        (20.0, "approved", "better than last touch by both judges"),
        (4.0, "inconclusive", "not surely better than a random order"),
        (2.0, "rejected", "no better than a random order"),
        (-4.0, "rejected", "no better than a random order"),
    ],
)
def test_without_a_champion_the_area_must_beat_luck(area: float, verdict: str, reason: str) -> None:
    """Luck reaches 5, the area's interval is ± 1.96."""
    decision = decide([key("OBS", 3.0, area=area), key("FD", 3.0, area=area)], champion=None, journeys=1_000)
    assert decision.verdict == verdict
    assert decision.reasons[0].startswith(reason)


def test_blocking_findings_outrank_the_keys() -> None:
    keys = [key("OBS", 9.0), key("FD", 9.0)]
    small = Blocking(reason="too few journeys", verdict="inconclusive", journeys_needed=5_000)
    decision = decide(keys, blocking=[small], champion="v1", journeys=1_000)
    assert (decision.verdict, decision.journeys_needed) == ("inconclusive", 5_000)
    decision = decide(keys, blocking=[small, Blocking(reason="no mediator evidence")], champion="v1", journeys=1_000)
    assert decision.verdict == "rejected"
    assert decision.reasons == ("no mediator evidence", "too few journeys")
    with pytest.raises(ConfigError, match="cannot approve"):
        Blocking(reason="fine", verdict="approved")


def test_journeys_needed_is_the_sample_at_power_80() -> None:
    """Δ = 1.4 with se 1 needs 2.8² / 1.4² = 4 times the journeys; a key that points down does not count."""
    assert journeys_needed([key("OBS", 1.4), key("FD", -1.0)], "v1", 1_000) == 4_000
    assert journeys_needed([key("OBS", -1.4)], "v1", 1_000) is None
    assert journeys_needed([key("OBS", 9.0)], "v1", 1_000) is None, "more journeys are not what is missing"


def test_replay_decides_the_same_from_its_record() -> None:
    for _, keys, verdict, _ in CASES:
        record = to_record(keys, [], GateConfig()) | {"champion": "v1", "journeys": 1_000}
        assert replay(record).verdict == verdict
    strict = GateConfig(confidence_z=4.0)
    record = to_record(CASES[0][1], [], GateConfig()) | {"champion": "v1", "journeys": 1_000}
    assert replay(record, strict).verdict == "inconclusive"


def test_thresholds_are_checked() -> None:
    with pytest.raises(ConfigError, match="guard_share"):
        GateConfig(guard_share=0.0)
