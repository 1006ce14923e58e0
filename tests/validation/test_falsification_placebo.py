"""What cannot have caused an upload earns no credit, unless an assumption is broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from confounded_world import confounded_world

from validation.buckets import make_buckets, profile_basis
from validation.falsification import FalsificationConfig, Finding, later_touches, shuffled_users
from validation.judge_arrays import SHARDS, JudgeArrays, LaterTouches, exposure_of
from validation.shards import draw_replicates
from validation.uplift_fd import uplift_fd

CONFIG = FalsificationConfig()
JOURNEYS = 12_000


@pytest.fixture(scope="module")
def valid() -> JudgeArrays:
    return confounded_world(JOURNEYS, seed=41).data


def later(data: JudgeArrays) -> Finding:
    finding = later_touches(data, profile_basis(data.x_JP), CONFIG)
    assert finding is not None
    return finding


def shuffled(data: JudgeArrays, config: FalsificationConfig = CONFIG) -> Finding:
    basis_JF = profile_basis(data.x_JP)
    buckets = make_buckets(
        basis_JF=basis_JF, y_J=data.y_J, shard_J=data.shard_J, dose_JK=data.dose_JK, most=5, min_treated=1_000
    )
    exposure = exposure_of(data, buckets)
    fd = uplift_fd(data, buckets, exposure, draw_replicates(SHARDS, 20, half_pairs=1, seed=0), basis_JF)
    assert fd is not None
    return shuffled_users(data, buckets, exposure, basis_JF, fd, config, seed=0)


def test_later_touches_earn_nothing_in_a_valid_world(valid: JudgeArrays) -> None:
    finding = later(valid)
    assert finding.verdict == "pass"
    assert finding.statistic is not None
    assert abs(finding.statistic) < 0.15


def test_later_touches_earn_credit_where_intent_moves_responses() -> None:
    finding = later(confounded_world(JOURNEYS, seed=42, contamination=0.7).data)
    assert finding.verdict == "warn"
    assert finding.statistic is not None
    assert finding.statistic > 0.3
    assert finding.blocks is None


def test_where_responses_earn_nothing_there_is_nothing_to_take_a_share_of() -> None:
    assert later(confounded_world(JOURNEYS, seed=43, effect=0.0).data).verdict == "no power"


def test_credit_of_later_touches_is_the_slope_on_what_the_outcome_was_made_of(valid: JudgeArrays) -> None:
    """The real touches' own responses passed off as later ones earn most of the real credit."""
    assert valid.response_TR is not None
    copy = LaterTouches(journey_N=valid.journey_T, column_N=valid.column_T, response_NR=valid.response_TR)
    finding = later(replace(valid, later=copy))
    assert finding.statistic is not None
    assert finding.statistic > 0.5


def test_without_touches_after_the_horizon_there_is_no_placebo(valid: JudgeArrays) -> None:
    basis_JF = profile_basis(valid.x_JP)
    for missing in ({"later": None}, {"response_TR": None}, {"post_JK": None}):
        assert later_touches(replace(valid, **missing), basis_JF, CONFIG) is None


def test_shuffled_journeys_lose_their_credit(valid: JudgeArrays) -> None:
    finding = shuffled(valid)
    assert finding.verdict in {"pass", "no power"}
    assert finding.statistic is not None
    assert finding.statistic < 0.2


def test_credit_that_survives_shuffling_was_noise() -> None:
    finding = shuffled(confounded_world(JOURNEYS, seed=44, effect=0.0).data)
    assert finding.verdict == "warn"
    assert finding.statistic is not None
    assert finding.statistic > 0.2


def test_few_journeys_cannot_fail_the_shuffle() -> None:
    data = confounded_world(800, seed=45, clusters=6, effect=0.0).data
    assert shuffled(data).verdict == "no power"


def test_shuffles_repeat_by_seed(valid: JudgeArrays) -> None:
    small = valid.subset(valid.shard_J < 150)
    few = FalsificationConfig(shuffles=2)
    assert shuffled(small, few).statistic == shuffled(small, few).statistic


def test_a_subset_keeps_every_touch_with_its_journey(valid: JudgeArrays) -> None:
    keep_J = valid.shard_J % 3 == 0
    part = valid.subset(keep_J)
    np.testing.assert_array_equal(part.y_J, valid.y_J[keep_J])
    np.testing.assert_allclose(part.per_journey_cluster(part.decay_T), part.dose_JK)
    assert part.later is not None
    counts_JK = np.zeros_like(part.dose_JK)
    np.add.at(counts_JK, (part.later.journey_N, part.later.column_N), 1)
    np.testing.assert_array_equal(counts_JK, part.post_JK)
