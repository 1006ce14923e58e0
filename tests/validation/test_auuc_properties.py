"""What AUUC must do on any data: of clusters, of rows, and of users behind the bootstrap."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from validation.auuc import Area, area_of, area_per_bucket, level_normalised, normalised, oracle_area, positions
from validation.cell_sums import CellSums
from validation.judge_arrays import Exposure
from validation.shards import Replicates, draw_replicates
from validation.uplift import Uplift
from validation.uplift_curves import auuc_score, qini_score

Array = np.ndarray[Any, Any]
EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True)
FEW = settings(max_examples=12, deadline=None, derandomize=True)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Clusters with uplift, exposure (some with none) and scores (some tied)."""

    u_BK: Array
    w_BK: Array
    score_BK: Array

    def areas(self) -> Array:
        """A_b, [B]."""
        return area_per_bucket(self.u_BK, positions(self.score_BK, self.w_BK), self.w_BK)


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    shape = (draw(st.integers(1, 3)), draw(st.integers(2, 12)))

    def of(values: st.SearchStrategy[float]) -> Array:
        size = shape[0] * shape[1]
        return np.array(draw(st.lists(values, min_size=size, max_size=size))).reshape(shape)

    touches_BK = of(st.integers(0, 50))
    touches_BK[:, 0] += 1
    return Ranking(
        u_BK=of(st.floats(-1, 1, width=32)),
        w_BK=touches_BK / touches_BK.sum(axis=1, keepdims=True),
        score_BK=of(st.integers(-4, 4)),
    )


@EXAMPLES
@given(ranking=rankings(), turn=st.randoms(use_true_random=False))
def test_order_of_clusters_does_not_matter(ranking: Ranking, turn: Any) -> None:
    order = list(range(ranking.u_BK.shape[1]))
    turn.shuffle(order)
    turned = Ranking(**{name: value[:, order] for name, value in vars(ranking).items()})
    np.testing.assert_allclose(turned.areas(), ranking.areas(), atol=1e-12)


@EXAMPLES
@given(ranking=rankings())
def test_no_ranking_beats_the_oracle_or_is_beaten_by_the_anti_oracle(ranking: Ranking) -> None:
    oracle_B = oracle_area(ranking.u_BK, ranking.w_BK)
    anti_B = replace(ranking, score_BK=-ranking.u_BK).areas()
    np.testing.assert_allclose(anti_B, -oracle_B, atol=1e-12)
    assert (ranking.areas() <= oracle_B + 1e-12).all()
    assert (ranking.areas() >= anti_B - 1e-12).all()
    for own, oracle in zip(ranking.areas(), oracle_B, strict=True):
        share = normalised(own, oracle)
        assert share is None or oracle < 1e-6 or -1e-6 <= share <= 1 + 1e-6


@EXAMPLES
@given(ranking=rankings(), level=st.floats(-5, 5), factor=st.floats(0.1, 10))
def test_level_of_uplift_and_scale_of_scores_do_not_matter(ranking: Ranking, level: float, factor: float) -> None:
    moved = replace(ranking, u_BK=ranking.u_BK + level, score_BK=np.exp(factor * ranking.score_BK))
    np.testing.assert_allclose(moved.areas(), ranking.areas(), atol=1e-9)


@FEW
@given(clusters=st.integers(8, 60), seed=st.integers(0, 2**32 - 1))
def test_random_ranking_is_one_half_within_its_band(clusters: int, seed: int) -> None:
    """Of K equal shares Var A = Σ(u/K − mean)² Σ(½ − s)² / (K − 1) over all orders, about a mean of 0."""
    rng = np.random.default_rng(seed)
    u_BK, w_BK = rng.normal(size=(1, clusters)), np.full((1, clusters), 1 / clusters)
    oracle = oracle_area(u_BK, w_BK)[0]
    centred_K = 0.5 - (np.arange(clusters) + 0.5) / clusters
    sd = np.sqrt(((u_BK - u_BK.mean()) ** 2).sum() * (centred_K**2).sum() / (clusters - 1)) / clusters / (2 * oracle)
    values = np.array(
        [
            normalised(Ranking(u_BK=u_BK, w_BK=w_BK, score_BK=rng.random((1, clusters))).areas()[0], oracle)
            for _ in range(300)
        ]
    )
    assert abs(values.mean() - 0.5) < 3.5 * sd / math.sqrt(len(values))
    assert np.mean(np.abs(values - 0.5) < 1.96 * sd) == pytest.approx(0.95, abs=0.045)


@FEW
@given(share=st.floats(0.2, 0.8), seed=st.integers(0, 2**32 - 1))
def test_random_ranking_of_rows_has_no_qini_and_half_an_auuc(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    treated_N = rng.random(2_000) < share
    y_N = (rng.random(2_000) < 0.2 + 0.3 * treated_N).astype(float)
    qini, auuc = ([f(rng.random(2_000), treated_N, y_N) for _ in range(60)] for f in (qini_score, auuc_score))
    for values, centre in ((qini, 0.0), (auuc, 0.5)):
        assert abs(np.mean(values) - centre) < 4 * np.std(values, ddof=1) / math.sqrt(60) + 1e-3


@EXAMPLES
@given(
    cells=st.lists(st.tuples(st.integers(-4, 4), st.integers(1, 6), st.integers(0, 2**6)), min_size=1, max_size=6),
    copies=st.integers(1, 4),
)
def test_rows_of_clusters_have_the_clusters_area(cells: list[tuple[int, int, int]], copies: int) -> None:
    """Each cluster one score and as many treated as untreated: AUUC (n + 1) − ½ sign g = n (½ sign g + A/|g|).

    For any number of copies, that is: duplicated rows change the curve's grid, not its shape.
    """
    score_N, treated_N, y_N, u_K = [], [], [], []
    for score, pairs, bits in cells:
        y1, y0 = np.arange(pairs) < bits % (pairs + 1), np.arange(pairs) < bits // 7 % (pairs + 1)
        score_N += [score] * 2 * pairs * copies
        treated_N += ([True] * pairs + [False] * pairs) * copies
        y_N += [*y1, *y0] * copies
        u_K.append(float(y1.mean() - y0.mean()))
    u_BK, w_K = np.array([u_K]), np.array([pairs for _, pairs, _ in cells]) / sum(pairs for _, pairs, _ in cells)
    ranking = Ranking(u_BK=u_BK, w_BK=w_K[None], score_BK=np.array([[float(score) for score, _, _ in cells]]))
    level, n = float(u_BK[0] @ w_K), len(y_N)
    rows = (np.array(score_N), np.array(treated_N), np.array(y_N, dtype=float))
    expected = level_normalised(ranking.areas()[0], level)
    if expected is None or abs(level) < 1e-9:
        return
    sign = math.copysign(1, level)
    auuc, qini = auuc_score(*rows), qini_score(*rows)
    assert auuc is not None
    assert qini is not None
    assert ((n + 1) * auuc - sign / 2) / n == pytest.approx(expected)
    assert (n + 1) / n * qini == pytest.approx(expected - sign / 2)


SHARDS, BUCKETS, CLUSTERS, TOUCHES, USERS = 500, 2, 6, 5, 4_000


@dataclass(frozen=True, kw_only=True)
class Users:
    """Users of one journey each."""

    shard_J: Array
    bucket_J: Array
    y_J: Array
    column_JL: Array

    def __getitem__(self, rows: Any) -> Users:
        return Users(**{name: value[rows] for name, value in vars(self).items()})

    def with_copies(self, shard_J: Array) -> Users:
        """Everybody twice, the copies in these shards."""
        twice = {name: np.concatenate([value, value]) for name, value in vars(self).items()}
        return Users(**twice | {"shard_J": np.concatenate([self.shard_J, shard_J])})


def users(seed: int) -> Users:
    rng = np.random.default_rng(seed)
    column_JL = rng.integers(0, CLUSTERS, (USERS, TOUCHES))
    bucket_J = rng.integers(0, BUCKETS, USERS)
    p_J = 0.05 + 0.05 * bucket_J + 0.3 * (column_JL / CLUSTERS).mean(axis=1)
    return Users(
        shard_J=rng.integers(0, SHARDS, USERS),
        bucket_J=bucket_J,
        y_J=(rng.random(USERS) < p_J).astype(float),
        column_JL=column_JL,
    )


def area(of: Users, replicates: Replicates) -> Area:
    """A of one fixed ranking, by the judge's own route from sums to intervals."""
    sums = CellSums.zeros(shards=replicates.shards, buckets=BUCKETS, clusters=CLUSTERS)
    sums.add(
        shard_J=of.shard_J,
        bucket_J=of.bucket_J,
        y_J=of.y_J,
        journey_T=np.repeat(np.arange(len(of.y_J)), TOUCHES),
        column_T=of.column_JL.ravel(),
    )
    w_BK, pi_B = sums.exposure()
    exposure = Exposure(w_BK=w_BK, pi_B=pi_B, decay_B=np.ones(BUCKETS))
    uplift = Uplift(judge="raw", u_RBK=sums.uplift(replicates), usable=False, note="")
    return area_of(uplift, np.broadcast_to(np.arange(CLUSTERS), w_BK.shape), exposure, replicates)


def assert_same(one: Area, other: Area) -> None:
    for name, value in vars(one).items():
        np.testing.assert_allclose(vars(other)[name], value, rtol=1e-9, atol=1e-12, err_msg=name)


@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_permuting_users_or_renaming_shards_changes_nothing(seed: int) -> None:
    """Users in any order; shards renamed together with their weights."""
    rng, drawn = np.random.default_rng(seed), users(seed)
    replicates = draw_replicates(SHARDS, 30, half_pairs=2, seed=seed)
    expected = area(drawn, replicates)
    assert expected.se > 0
    shuffled = drawn[rng.permutation(USERS)]
    assert_same(area(shuffled, replicates), expected)
    name_S = rng.permutation(SHARDS)
    renamed = replace(replicates, weight_RS=replicates.weight_RS[:, np.argsort(name_S)])
    assert_same(area(replace(drawn, shard_J=name_S[drawn.shard_J]), renamed), expected)


@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_duplicates_keep_the_point_and_narrow_the_interval_only_if_independent(seed: int) -> None:
    """As new users in shards of their own draw they halve the variance; beside their originals they are no news."""
    drawn = users(seed)
    replicates = draw_replicates(SHARDS, 500, half_pairs=1, seed=seed)
    once = area(drawn, replicates)
    beside = area(drawn.with_copies(drawn.shard_J), replicates)
    assert_same(beside, once)
    elsewhere_J = np.random.default_rng([seed, 1]).integers(0, SHARDS, USERS)
    anew = area(drawn.with_copies(elsewhere_J), replicates)
    assert anew.area == pytest.approx(once.area)
    np.testing.assert_allclose(anew.area_B, once.area_B)
    assert anew.se / once.se == pytest.approx(1 / math.sqrt(2), abs=0.14)
