from __future__ import annotations

from itertools import combinations
from math import factorial

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.batch import Treatment
from model.front_door import Bank, FrontDoorModel, Game, Sizes, bank_weights, removal_effects
from model.link import SaturatingLink
from model.settings import ModelConfig
from model.shapley import shapley


def game(journeys: int, bank: int = 32, seed: int = 0) -> Game:
    g = torch.Generator().manual_seed(seed)
    return Game(
        c_BJ=torch.randn(journeys, bank, generator=g) - 2,
        residual_J=torch.randn(bank, generator=g),
        weight_BJ=torch.softmax(torch.randn(journeys, bank, generator=g), 1),
        link=SaturatingLink(),
    )


@pytest.fixture(autouse=True)
def no_grad() -> object:
    with torch.no_grad():
        yield


def exact_shapley(g: Game, e_L: Tensor) -> Tensor:
    """By definition: the mean gain over all orders, from every coalition's value."""
    L = len(e_L)
    phi_L = torch.zeros(L)
    for l in range(L):  # noqa: E741
        others = [k for k in range(L) if k != l]
        for size in range(L):
            weight = factorial(size) * factorial(L - size - 1) / factorial(L)
            for coalition in combinations(others, size):
                base = e_L[list(coalition)].sum()
                both = g.value(torch.stack([base + e_L[l], base])[None])[0]
                phi_L[l] += weight * (both[0] - both[1])
    return phi_L


def test_removal_by_hand() -> None:
    """One bank journey with c = 0, R = 0 and a linear link: v(z) = σ(z), Δ_1 = σ(1.5) − σ(0.5)."""
    link = SaturatingLink()
    link.curvature.data.fill_(-30.0)
    g = Game(c_BJ=torch.zeros(1, 1), residual_J=torch.zeros(1), weight_BJ=torch.ones(1, 1), link=link)
    effects = removal_effects(g, torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]]))
    sigma = torch.sigmoid(torch.tensor([1.5, 0.5, 1.0, 0.0]))
    expected = torch.stack([sigma[0] - sigma[1], sigma[0] - sigma[2], torch.tensor(0.0)])
    assert_close(effects.delta_BL[0], expected, atol=1e-4, rtol=0)
    assert_close(effects.p_do_none_B, sigma[3:], atol=1e-4, rtol=0)


def test_a_touch_without_effect_has_no_credit() -> None:
    e = torch.tensor([[0.7, 0.0, -0.3]])
    effects = removal_effects(game(1), e, torch.ones(1, 3))
    assert effects.delta_BL[0, 1] == 0
    assert effects.delta_BL[0, 0] > 0 > effects.delta_BL[0, 2]


def test_shapley_is_close_to_enumeration() -> None:
    """Moderate effects over 8 touches: every credit within 2% of the largest."""
    g = game(3)
    e = 0.4 * torch.rand(3, 8, generator=torch.Generator().manual_seed(1))
    phi = shapley(g, e, torch.ones(3, 8))
    for b in range(3):
        alone = Game(c_BJ=g.c_BJ[b : b + 1], residual_J=g.residual_J, weight_BJ=g.weight_BJ[b : b + 1], link=g.link)
        exact = exact_shapley(alone, e[b])
        assert (phi[b] - exact).abs().max() < 0.02 * exact.max()


def test_shapley_is_efficient_symmetric_and_ignores_padding() -> None:
    g = game(1)
    e, mask = torch.tensor([[0.5, 0.5, 1.2, 0.0]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    phi = shapley(g, e, mask)
    whole = g.value(e.sum(1, keepdim=True)) - g.value(torch.zeros(1, 1))
    assert_close(phi.sum(1, keepdim=True), whole)
    assert_close(phi[0, 0], phi[0, 1])
    assert phi[0, 3] == 0


def test_bank_weights_favour_like_propensity() -> None:
    bank = Bank(
        hidden_JH=torch.zeros(3, 1), residual_J=torch.zeros(3), score_J=torch.tensor([-2.0, 0.0, 2.0]),
        score_weight_P=torch.tensor([1.0]), score_bias=torch.tensor(0.0),
    )  # fmt: skip
    w = bank_weights(bank, torch.tensor([[-2.0], [2.0]]), bandwidth=0.5)
    assert_close(w.sum(1), torch.ones(2))
    assert w[0].argmax() == 0
    assert w[1].argmax() == 2


def test_reference_content_has_no_effect_and_effects_ignore_padding() -> None:
    sizes = Sizes(clusters=4, content_dim=2, profile_dim=3, control_dim=1, responses=("watch_ratio",))
    torch.manual_seed(0)
    model = FrontDoorModel(ModelConfig(hidden=8), sizes)
    x = torch.randn(5, 3)
    order = model.prior.over_catalogue(x).sort(1).values
    assert ((order < model.prior.reference(x)[:, None]).float().mean(1) <= 0.25).all()
    t = Treatment(
        cluster_BL=torch.zeros(5, 2, dtype=torch.int64), content_BLD=torch.randn(5, 2, 2),
        gap_hours_BL=torch.ones(5, 2), mask_BL=torch.tensor([[1.0, 0.0]] * 5),
    )  # fmt: skip
    assert (model.effects(t, x)[:, 1] == 0).all()
