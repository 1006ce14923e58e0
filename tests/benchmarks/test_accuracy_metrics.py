"""Every figure against numbers reckoned by hand."""

from __future__ import annotations

import numpy as np
import pytest
from accuracy_example import judged_by_hand

from benchmarks.accuracy.metrics import (
    Randomised,
    attribution,
    effect_errors,
    efficiencies,
    flagged,
    gauc,
    measure,
    ranking,
)
from benchmarks.methods import Scores

TRIAL = Randomised(y_J=np.array([0.0, 1.0, 0.0]), p_do_J=np.array([0.1, 0.4, 0.2]))

# Bucket 0: clusters 0 and 1 with two touches each, mean Δ .2 and 0. Bucket 1: three touches of cluster 0 with mean Δ
# .1, one of cluster 1 with .3.
TWO_BUCKETS = judged_by_hand(
    journeys=[[(0, 0.1), (1, 0.0)], [(0, 0.3), (1, 0.0)], [(0, 0.1), (0, 0.1)], [(0, 0.1), (1, 0.3)]],
    uploads=[1, 0, 1, 0],
    buckets=[0, 0, 1, 1],
)


def test_auuc_of_each_bucket_and_pooled() -> None:
    """Ranking cluster 0 first is right in bucket 0 and wrong in bucket 1.

    Bucket 0: w = (½, ½), s = (¼, ¾), A = ½·.2·¼ = .025 = oracle. Bucket 1: w = (¾, ¼); s = (⅜, ⅞),
    A = ¾·.1·⅛ − ¼·.3·⅜ = −.01875; the oracle ranks cluster 1 first, s = (⅝, ⅛): A = −¾·.1·⅛ + ¼·.3·⅜ = .01875.
    π = (½, ½): pooled = ½ + ½ · (.025 − .01875) / (.025 + .01875).
    """
    found = ranking(np.array([2.0, 1, 2, 1, 2, 2, 2, 1]), TWO_BUCKETS)
    assert found["auuc_bucket_1"] == pytest.approx(1.0)
    assert found["auuc_bucket_2"] == pytest.approx(0.0)
    assert found["auuc_pooled"] == pytest.approx(0.5 + 0.5 * 0.00625 / 0.04375)


def test_auuc_of_constant_credits_is_a_random_order() -> None:
    assert list(ranking(np.full(8, 0.3), TWO_BUCKETS).values()) == pytest.approx([0.5] * 3)


def test_auuc_of_the_truth_is_one() -> None:
    assert list(ranking(TWO_BUCKETS.truth_T, TWO_BUCKETS).values()) == pytest.approx([1.0] * 3)


def test_a_ranking_is_the_mean_of_a_cluster_in_its_bucket() -> None:
    """Touch by touch these credits are all over the place; the means of cluster 0 are the larger ones."""
    found = ranking(np.array([9.0, 1, -3, 1, 2, 2, 2, 1]), TWO_BUCKETS)
    assert found["auuc_bucket_1"] == pytest.approx(1.0)


def test_errors_of_effects() -> None:
    """Truth (0, .1, .2, .3), estimate (0, 0, .2, .2).

    Deviations (−.15, −.05, .05, .15) and (−.1, −.1, .1, .1): squares sum to .05 and .04, products to .04.
    """
    judged = judged_by_hand(journeys=[[(0, 0.0), (0, 0.1)], [(1, 0.2), (1, 0.3)]], uploads=[0, 1], buckets=[0, 0])
    found = effect_errors(np.array([0.0, 0.0, 0.2, 0.2]), judged)
    assert found["correlation"] == pytest.approx(0.04 / np.sqrt(0.05 * 0.04))
    assert found["slope"] == pytest.approx(0.04 / 0.04)
    assert found["rmse"] == pytest.approx(np.sqrt(0.02 / 4))
    assert found["pehe_over_sd"] == pytest.approx(np.sqrt(0.02 / 4) / np.sqrt(0.05 / 4))
    assert found["bias"] == pytest.approx(0.1 - 0.15)
    assert found["cluster_spearman"] == pytest.approx(1.0)


def test_constant_credits_correlate_with_nothing() -> None:
    found = effect_errors(np.full(8, 0.1), TWO_BUCKETS)
    assert found["correlation"] == found["slope"] == found["cluster_spearman"] == 0


def test_without_an_effect_only_size_and_bias_are_defined() -> None:
    judged = judged_by_hand(journeys=[[(0, 0.0), (1, 0.0)]], uploads=[1], buckets=[0])
    figures = measure(Scores(credit_N=np.array([0.02, 0.0])), judged, TRIAL)
    assert figures["rmse"] == pytest.approx(np.sqrt(0.0002))
    assert figures["bias"] == pytest.approx(0.01)
    assert not {"correlation", "auuc_bucket_1", "auuc_pooled", "top1_efficiency", "precision", "recall"} & set(figures)


def test_efficiency_against_uniform_and_against_last_touch() -> None:
    """20 touches: top 1% is one place, top 10% two. The mean Δ is .05 · (.6 + .2 + .2) = .05.

    Last touch of uploads: touches 1 and 3 with Δ .2 and .2 -> they tie for the one place, mean .2.
    """
    journeys = [[(0, 0.6), (0, 0.2)], [(0, 0.0), (0, 0.2)], *([[(0, 0.0), (0, 0.0)]] * 8)]
    judged = judged_by_hand(journeys=journeys, uploads=[1, 1, *([0] * 8)], buckets=[0] * 10)
    found = efficiencies(np.array([5.0, 4.0, *([0.0] * 18)]), judged)
    assert found["top1_efficiency"] == pytest.approx(0.6 / 0.05)
    assert found["top1_vs_last_touch"] == pytest.approx(0.6 / 0.2)
    assert found["top10_efficiency"] == pytest.approx(0.4 / 0.05)
    assert found["top10_vs_last_touch"] == pytest.approx(0.4 / 0.2)
    assert found["top1_of_oracle"] == pytest.approx(1.0)
    # the oracle's other place goes to one of the two touches with .2
    assert efficiencies(judged.truth_T - 0.5 * judged.last_T, judged)["top10_of_oracle"] == pytest.approx(0.3 / 0.4)
    uniform = efficiencies(np.full(20, 0.1), judged)
    assert [uniform[f"top{q}_efficiency"] for q in (1, 5, 10)] == pytest.approx([1.0, 1.0, 1.0])


def test_coverage_precision_and_recall() -> None:
    """30 touches: 3 are flagged, and 3 have a Δ above the 90th percentile."""
    journeys = [[(0, 0.5), (0, 0.0), (0, 0.4)], [(0, 0.0)] * 3, [(0, 0.3), (0, 0.0), (0, 0.0)], *([[(0, 0.0)] * 3] * 7)]
    judged = judged_by_hand(journeys=journeys, uploads=[1, 0, 1, 1, *([0] * 6)], buckets=[0] * 10)
    credit_T = np.zeros(30)
    credit_T[[0, 2, 3]] = 0.9, 0.8, 0.7  # two causes of the first journey, one touch of the second, which has no upload
    found = attribution(credit_T, judged)
    assert found["coverage"] == pytest.approx(1 / 3)
    assert found["touches_per_covered_upload"] == pytest.approx(2.0)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)


def test_the_same_share_is_flagged_whatever_ties() -> None:
    assert flagged(np.ones(50), 0.1).sum() == 5
    assert flagged(np.repeat([2.0, 1.0], [3, 47]), 0.1)[:3].all()
    assert flagged(np.repeat([2.0, 1.0], [3, 47]), 0.1).sum() == 5


def test_a_credit_of_nothing_is_no_attribution() -> None:
    assert flagged(np.repeat([2.0, 0.0, -1.0], [2, 20, 28]), 0.1).sum() == 2
    constant = attribution(np.zeros(8), TWO_BUCKETS)
    assert constant["coverage"] == 0
    assert "precision" not in constant
    assert "touches_per_covered_upload" not in constant


def test_gauc_weighs_groups_by_their_journeys() -> None:
    """Group 7: y (1, 0, 0), scores (.5, .5, .1): (½ + 1) / 2 = .75, 3 journeys. Group 2: AUC 0, 2 journeys.

    Group 9 has no upload and does not count: (3·.75 + 2·0) / 5.
    """
    group_J = np.array([7, 7, 2, 9, 7, 2])
    y_J = np.array([1.0, 0, 1, 0, 0, 0])
    score_J = np.array([0.5, 0.5, 0.2, 0.9, 0.1, 0.3])
    assert gauc(score_J, y_J, group_J) == pytest.approx(2.25 / 5)
    assert gauc(score_J, np.zeros(6), group_J) is None


def test_gauc_of_one_group_is_the_auc() -> None:
    rng = np.random.default_rng(3)
    score_J, y_J = rng.integers(0, 9, 200) / 9, (rng.random(200) < 0.3).astype(float)
    pairs = score_J[y_J == 1][:, None] - score_J[y_J == 0]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert gauc(score_J, y_J, np.zeros(200, np.int64)) == pytest.approx(expected)


def test_intervals_abstentions_and_predictions() -> None:
    judged = judged_by_hand(journeys=[[(0, 0.1), (1, 0.2)], [(0, 0.3), (1, 0.4)]], uploads=[0, 1], buckets=[0, 0])
    scores = Scores(
        credit_N=np.array([0.1, 0.1, 0.1, 0.1]),
        stderr_N=np.array([0.01, 0.1 / 1.66, 0.2 / 1.64, 0.3 / 1.64]),  # inside, outside, inside, inside
        abstained_N=np.array([True, False, False, False]),
        p_J=np.array([0.2, 0.5]),
        p_randomised_J=np.array([0.1, 0.2, 0.5]),
    )
    found = measure(scores, judged, TRIAL)
    assert found["interval_coverage"] == pytest.approx(0.75)
    assert found["abstained_share"] == pytest.approx(0.25)
    assert found["upload_auc"] == 1.0
    assert found["upload_log_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.5)) / 2)
    assert found["randomised_upload_auc"] == pytest.approx(0.5)
    assert found["randomised_upload_log_loss"] == pytest.approx(-(np.log(0.9) + np.log(0.2) + np.log(0.5)) / 3)
    assert found["randomised_p_error"] == pytest.approx(np.sqrt((0.2**2 + 0.3**2) / 3))
    assert "gauc_user" not in found  # every user has one journey


def test_no_method_exceeds_the_truth() -> None:
    rng = np.random.default_rng(0)
    journeys = [[(int(k), float(d)) for k, d in zip(rng.integers(0, 5, 4), rng.gamma(1, 0.02, 4), strict=True)]
                for _ in range(200)]  # fmt: skip
    judged = judged_by_hand(
        journeys=journeys, uploads=rng.integers(0, 2, 200).tolist(), buckets=rng.integers(0, 3, 200).tolist()
    )
    oracle = measure(Scores(credit_N=judged.truth_T), judged, TRIAL)
    noisy = measure(Scores(credit_N=judged.truth_T + rng.normal(0, 0.02, 800)), judged, TRIAL)
    assert oracle["correlation"] == pytest.approx(1.0)
    assert oracle["precision"] == oracle["recall"] == 1.0
    rising = ["correlation", "auuc_pooled", "top1_efficiency", "top5_efficiency", "top10_efficiency", "recall"]
    assert all(noisy[name] < oracle[name] for name in rising)
    assert noisy["rmse"] == pytest.approx(0.02, rel=0.1)
