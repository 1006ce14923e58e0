"""Row-level AUUC and Qini: equal to causalml without ties, and to their definition by brute force with them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ConfigError
from validation import uplift_curves
from validation.uplift_curves import auuc_score, qini_score

SCORES = pytest.mark.parametrize("score_of", [auuc_score, qini_score])
Score = Callable[..., float | None]


def drawn(
    n: int, share: float, rate: float, effect: float, seed: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A tie-free ranking of effects that rise with the score; both arms have rows."""
    rng = np.random.default_rng(seed)
    score_N = rng.normal(size=n)
    treated_N = rng.random(n) < share
    treated_N[:2] = rng.permutation([True, False])
    y_N = (rng.random(n) < rate + effect * treated_N * (score_N > 0)).astype(float)
    return score_N, treated_N, y_N


def by_definition(
    score_N: np.ndarray[Any, Any], treated_N: np.ndarray[Any, Any], y_N: np.ndarray[Any, Any], *, qini: bool
) -> tuple[float, float]:
    """The un-normalised score and the curve's end: heights where a group of ties ends, read at every i = 0..n."""
    n, ends, heights = len(score_N), [0], [0.0]
    tops = [score_N >= value for value in np.unique(score_N)[::-1]]
    has_arms = [(~treated_N[top]).any() and (qini or treated_N[top].any()) for top in tops]
    m = tops[has_arms.index(True)].sum()

    def height(top_N: np.ndarray[Any, Any]) -> float:
        n1, n0 = (top_N & treated_N).sum(), (top_N & ~treated_N).sum()
        y1, y0 = y_N[top_N & treated_N].sum(), y_N[top_N & ~treated_N].sum()
        return float(y1 - y0 * n1 / n0 if qini else (n1 + n0) * (y1 / n1 - y0 / n0))

    first = height(tops[has_arms.index(True)])
    for top_N, has in zip(tops, has_arms, strict=True):
        ends.append(int(top_N.sum()))
        heights.append(height(top_N) if has else first * (ends[-1] / m) ** (1 if qini else 2))
    mean = np.interp(np.arange(n + 1), ends, heights).mean()
    return float(mean - (heights[-1] / 2 if qini else 0)), heights[-1]


@pytest.mark.parametrize("n", [2, 7, 100, 4_000, 100_003])
@pytest.mark.parametrize(("share", "rate", "effect"), [(0.5, 0.1, 0.1), (0.03, 0.4, 0.0), (0.97, 0.4, -0.3)])
def test_equals_causalml_without_ties(n: int, share: float, rate: float, effect: float) -> None:
    """100,003 rows are more than one block; rare arms leave the top of the ranking undefined for long."""
    metrics = pytest.importorskip("causalml.metrics", reason="causalml comes with the extra 'bench'")
    for seed in range(3):
        score_N, treated_N, y_N = drawn(n, share, rate, effect, seed)
        frame = pd.DataFrame({"score": score_N, "w": treated_N.astype(int), "y": y_N})
        for normalise in (False, True):
            for ours, theirs in ((auuc_score, metrics.auuc_score), (qini_score, metrics.qini_score)):
                value = ours(score_N, treated_N, y_N, normalise=normalise)
                if value is None:
                    assert normalise
                    assert ours(score_N, treated_N, y_N, normalise=False) is not None
                else:
                    assert value == pytest.approx(
                        float(theirs(frame, normalize=normalise)["score"]), rel=1e-6, abs=1e-6
                    )


def test_by_hand() -> None:
    """Rows by falling score: treated y = 1, untreated 0, treated 0, untreated 1. g = i(Y¹/N¹ − Y⁰/N⁰):

    g(2) = 2, g(3) = 1.5, g(4) = 0, g(1) = g(2)(1/2)² = .5; Σ/5 = .8. q = Y¹ − Y⁰N¹/N⁰: q(2) = 1, q(3) = 1, q(4) = 0,
    q(1) = ½; Σ/5 = .5.
    """
    score_N, treated_N, y_N = np.array([4, 3, 2, 1]), np.array([1, 0, 1, 0]), np.array([1, 0, 0, 1])
    assert auuc_score(score_N, treated_N, y_N, normalise=False) == pytest.approx(0.8)
    assert qini_score(score_N, treated_N, y_N, normalise=False) == pytest.approx(0.5)
    assert auuc_score(score_N, treated_N, y_N) is None


def test_ties_by_hand() -> None:
    """Treated y = 1 above a tie of untreated 0, treated 1, untreated 1: g(4) = 4(1 − ½) = 2, g(1) = 2(¼)² = ⅛,

    straight between: 0, ⅛, ¾, 1⅜, 2.
    """
    score_N, treated_N, y_N = np.array([4, 1, 1, 1]), np.array([1, 0, 1, 0]), np.array([1, 0, 1, 1])
    expected = (0 + 0.125 + 0.75 + 1.375 + 2) / 5
    assert auuc_score(score_N, treated_N, y_N, normalise=False) == pytest.approx(expected)


rows = st.lists(
    st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from([0.0, 1.0, -0.5, 2.25])), min_size=2, max_size=40
).filter(lambda rows: len({treated for _, treated, _ in rows}) == 2)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(rows=rows, turn=st.randoms(use_true_random=False), block=st.integers(1, 9))
def test_ties_share_one_position_whatever_the_order_of_rows(rows: list[Any], turn: Any, block: int) -> None:
    score_N, treated_N, y_N = (np.array(column) for column in zip(*rows, strict=True))
    order = list(range(len(rows)))
    turn.shuffle(order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uplift_curves, "_BLOCK", block)
        for score_of, qini in ((auuc_score, False), (qini_score, True)):
            expected, end = by_definition(score_N, treated_N, y_N, qini=qini)
            value = score_of(score_N[order], treated_N[order], y_N[order], normalise=False)
            assert value == pytest.approx(expected, abs=1e-9)
            if abs(end) > 1e-9:
                assert score_of(score_N, treated_N, y_N) == pytest.approx(expected / abs(end), abs=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_constant_score_is_a_random_ranking(sign: int) -> None:
    treated_N, y_N = np.array([1, 1, 0, 0]), sign * np.array([1.0, 1.0, 0.0, 1.0])
    assert auuc_score(np.zeros(4), treated_N, y_N) == pytest.approx(sign / 2)
    assert qini_score(np.zeros(4), treated_N, y_N) == pytest.approx(0)


@SCORES
@pytest.mark.parametrize("treated", [[], [1, 1, 1], [0, 0, 0]], ids=["empty", "all treated", "all untreated"])
def test_an_empty_arm_has_no_score(score_of: Score, treated: list[int]) -> None:
    n = len(treated)
    for normalise in (False, True):
        assert score_of(np.arange(n), np.array(treated), np.ones(n), normalise=normalise) is None


@SCORES
def test_a_curve_that_ends_at_zero_cannot_be_normalised(score_of: Score) -> None:
    score_N, treated_N, y_N = np.array([4, 3, 2, 1]), np.array([1, 0, 1, 0]), np.array([1, 0, 0, 1])
    assert score_of(score_N, treated_N, y_N) is None
    assert score_of(score_N, treated_N, y_N, normalise=False) is not None


@SCORES
def test_types_and_infinite_scores_do_not_matter(score_of: Score) -> None:
    score_N, treated_N, y_N = drawn(500, 0.5, 0.3, 0.2, seed=0)
    score_N[score_N > 2] = 9.0
    expected = score_of(score_N, treated_N, y_N)
    assert expected is not None
    assert math.isfinite(expected)
    infinite_N = np.where(score_N == 9, np.inf, score_N)
    for kind in (np.uint8, np.int64, np.float32):
        assert score_of(infinite_N, treated_N.astype(kind), y_N.astype(kind)) == pytest.approx(expected)


@SCORES
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score_N": np.array([0.1, np.nan, 0.3])}, r"score\[1\] is NaN"),
        ({"treated_N": np.array([0, 1, 2])}, r"treated\[2\] = 2 is neither 0 nor 1"),
        ({"treated_N": np.array([0.0, np.nan, 1.0])}, r"treated\[1\] = nan"),
        ({"y_N": np.array([0.0, 1.0, -np.inf])}, r"y\[2\] = -inf is not finite"),
        ({"y_N": np.zeros(2)}, r"one value a row each.*\(2,\)"),
        ({name: np.zeros((3, 1)) for name in ("score_N", "treated_N", "y_N")}, r"one value a row each"),
    ],
)
def test_bad_rows_are_named(score_of: Score, change: dict[str, np.ndarray[Any, Any]], message: str) -> None:
    rows = {"score_N": np.array([0.1, 0.2, 0.3]), "treated_N": np.array([0, 1, 0]), "y_N": np.zeros(3)} | change
    with pytest.raises(ConfigError, match=message):
        score_of(**rows)
