from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from model.front_door import Game, removal_effects
from model.interactions import pair_effects, strongest_pairs
from model.link import SaturatingLink, inverse_softplus


@pytest.fixture(autouse=True)
def no_grad() -> object:
    with torch.no_grad():
        yield


def game(journeys: int, *, level: float = -2.0, curvature: float = 0.1, bank: int = 32) -> Game:
    """A random game around logit `level` whose link g = κ_s tanh(·/κ_s) has 1/κ_s = `curvature`."""
    g = torch.Generator().manual_seed(0)
    link = SaturatingLink()
    link.curvature.data.fill_(inverse_softplus(curvature))
    return Game(
        c_BJ=torch.randn(journeys, bank, generator=g) + level,
        residual_J=torch.randn(bank, generator=g),
        weight_BJ=torch.softmax(torch.randn(journeys, bank, generator=g), 1),
        link=link,
    )


class SlopeGame(Game):
    """v(z) = 0.3 + 0.1 z: nothing bends."""

    def value(self, z_BZ: Tensor) -> Tensor:
        return 0.3 + 0.1 * z_BZ


def removed(g: Game, e_L: Tensor, gone: set[int]) -> float:
    """v(Σe) without the touches `gone`, of a game of one journey, by the game itself."""
    kept_L = torch.tensor([l not in gone for l in range(len(e_L))])  # noqa: E741
    return float(g.value((e_L.double() * kept_L).sum()[None, None]))


effects = st.lists(st.floats(-2, 2, width=32), min_size=2, max_size=8).map(torch.tensor)


@settings(max_examples=40, deadline=None)
@given(e_L=effects, curvature=st.sampled_from([0.1, 0.5]))
def test_pairs_are_the_games_own(e_L: Tensor, curvature: float) -> None:
    """I and the joint removal of every pair, against four and two values of the game."""
    g = game(1, curvature=curvature)
    pairs = pair_effects(g, e_L[None], torch.ones(1, len(e_L)))
    whole = removed(g, e_L, set())
    for k, l in combinations(range(len(e_L)), 2):  # noqa: E741
        without_k, without_l, without_both = (removed(g, e_L, gone) for gone in ({k}, {l}, {k, l}))
        assert float(pairs.joint_BLL[0, k, l]) == pytest.approx(whole - without_both, abs=2e-5)
        interaction = whole - without_k - without_l + without_both
        assert float(pairs.interaction_BLL[0, k, l]) == pytest.approx(interaction, abs=2e-5)
    assert_close(pairs.interaction_BLL, pairs.interaction_BLL.mT)
    assert (pairs.interaction_BLL.diagonal(dim1=1, dim2=2) == 0).all()


def test_interaction_by_hand() -> None:
    """One bank journey, c = R = 0, linear link: v(z) = σ(z), I = σ(1.5) − σ(0.5) − σ(1) + σ(0) < 0."""
    g = Game(c_BJ=torch.zeros(1, 1), residual_J=torch.zeros(1), weight_BJ=torch.ones(1, 1), link=SaturatingLink())
    g.link.curvature.data.fill_(-30.0)
    pairs = pair_effects(g, torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]]))
    s = torch.sigmoid(torch.tensor([1.5, 0.5, 1.0, 0.0]))
    assert_close(pairs.interaction_BLL[0, 0, 1], s[0] - s[1] - s[2] + s[3], atol=1e-5, rtol=0)
    assert_close(pairs.joint_BLL[0, 0, 1], s[0] - s[3], atol=1e-5, rtol=0)
    assert (pairs.interaction_BLL[0, 2] == 0).all()
    assert (pairs.joint_BLL[0, 2] == 0).all()


def test_diagonal_of_the_joint_removal_is_the_removal() -> None:
    g, e_BL, mask_BL = game(5), torch.rand(5, 7, generator=torch.Generator().manual_seed(1)), torch.ones(5, 7)
    joint_BL = pair_effects(g, e_BL, mask_BL).joint_BLL.diagonal(dim1=1, dim2=2)
    assert_close(joint_BL, removal_effects(g, e_BL, mask_BL).delta_BL, atol=1e-5, rtol=0)


def test_nothing_interacts_where_nothing_bends() -> None:
    """In a game linear in z, and to first order for small effects: I is of the order of e², Δ of e."""
    e_BL, mask_BL = torch.rand(4, 6, generator=torch.Generator().manual_seed(2)), torch.ones(4, 6)
    g = game(4)
    linear = SlopeGame(c_BJ=g.c_BJ, residual_J=g.residual_J, weight_BJ=g.weight_BJ, link=g.link)
    assert pair_effects(linear, e_BL, mask_BL).interaction_BLL.abs().max() < 1e-6
    small = pair_effects(g, 0.01 * e_BL, mask_BL)
    assert small.interaction_BLL.abs().max() < 0.02 * small.joint_BLL.max()


def test_few_uploads_make_synergy_and_saturation_redundancy() -> None:
    e_BL, mask_BL, apart_LL = torch.full((3, 4), 0.8), torch.ones(3, 4), ~torch.eye(4, dtype=torch.bool)
    rare = pair_effects(game(3, level=-6, curvature=0.01), e_BL, mask_BL).interaction_BLL[:, apart_LL]
    saturated = pair_effects(game(3, level=-6, curvature=1.0), e_BL, mask_BL).interaction_BLL[:, apart_LL]
    assert (rare > 0).all()
    assert (saturated < 0).all()


def test_strongest_pairs_come_first_and_padding_never_counts() -> None:
    """The second journey has two touches, one pair; the third has one touch, none."""
    e_BL = torch.tensor([[0.2, 1.5, -0.4, 0.9], [0.3, 0.6, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0]])
    mask_BL = torch.tensor([[1.0] * 4, [1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    g = game(3)
    best, every = strongest_pairs(g, e_BL, mask_BL, top=3), pair_effects(g, e_BL, mask_BL)
    assert best.mask_BP.tolist() == [[True] * 3, [True, False, False], [False] * 3]
    size_T = [float(every.interaction_BLL[0, k, m].abs()) for k, m in combinations(range(4), 2)]
    assert best.interaction_BP[0].abs().tolist() == sorted(size_T, reverse=True)[:3]
    assert (best.first_BP < best.second_BP).all()
    first, second = int(best.first_BP[0, 0]), int(best.second_BP[0, 0])
    assert best.joint_BP[0, 0] == every.joint_BLL[0, first, second]
    assert (best.first_BP[1, 0], best.second_BP[1, 0]) == (0, 1)


def test_real_pairs_without_effect_come_before_padding() -> None:
    best = strongest_pairs(game(1), torch.zeros(1, 4), torch.tensor([[1.0, 1.0, 1.0, 0.0]]), top=3)
    assert best.mask_BP.all()


def test_journeys_of_one_touch_have_no_pairs() -> None:
    best = strongest_pairs(game(2), torch.ones(2, 1), torch.ones(2, 1), top=5)
    assert best.interaction_BP.shape == (2, 0)
