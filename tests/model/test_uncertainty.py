from __future__ import annotations

import torch
from made_table import made_model, made_table
from torch import Tensor
from torch.testing import assert_close

from model.front_door import Game, RemovalEffects, removal_effects
from model.link import SaturatingLink
from model.uncertainty import LEVEL_FACTOR, SPREAD_FACTOR, credit_errors

MASK = torch.tensor([[1.0, 1.0, 0.0]])
E_BL = torch.tensor([[1.0, 0.5, 0.0]])


def game() -> Game:
    """Two bank journeys that differ, under a link that is all but linear."""
    link = SaturatingLink()
    link.curvature.data.fill_(-30.0)
    return Game(
        c_BJ=torch.tensor([[-1.0, 0.0]]), residual_J=torch.tensor([0.3, -0.2]), weight_BJ=torch.tensor([[0.6, 0.4]]),
        link=link,
    )  # fmt: skip


def errors(e_EBL: Tensor, *, relative: float = 0.0, doubt: float = 0.0) -> tuple[Tensor, RemovalEffects]:
    with torch.no_grad():
        effects = removal_effects(game(), e_EBL.mean(0), MASK)
        return credit_errors(game(), effects, e_EBL, doubt * MASK, torch.tensor(relative)), effects


def slope() -> Tensor:
    """∂P/∂e = Σ_j w_j p_j (1 − p_j) at Σ e = 1.5."""
    p_J = torch.sigmoid(torch.tensor([-1.0, 0.0]) + torch.tensor([0.3, -0.2]) + 1.5)
    return (torch.tensor([0.6, 0.4]) * p_J * (1 - p_J)).sum()


def test_one_member_has_the_errors_of_bank_and_scale_alone() -> None:
    stderr, effects = errors(E_BL[None], relative=0.3)
    assert_close(stderr, (effects.stderr_BL**2 + (0.3 * effects.delta_BL) ** 2).sqrt())
    assert_close(errors(E_BL[None])[0], effects.stderr_BL)


def test_the_members_spread_by_hand() -> None:
    """Effects 1 − .2 and 1 + .2 of two members deviate by .2 √2; the other touch is certain."""
    e_EBL = torch.stack([E_BL - torch.tensor([0.2, 0, 0]), E_BL + torch.tensor([0.2, 0, 0])])
    stderr, effects = errors(e_EBL)
    spread = SPREAD_FACTOR * 0.2 * 2**0.5 * slope()
    assert_close(stderr[0, 0], (effects.stderr_BL[0, 0] ** 2 + spread**2).sqrt(), rtol=1e-3, atol=0)
    assert_close(stderr[0, 1], effects.stderr_BL[0, 1])


def test_the_doubt_where_effects_begin_by_hand() -> None:
    stderr, effects = errors(E_BL[None], doubt=0.4)
    expected = (effects.stderr_BL**2 + (LEVEL_FACTOR * 0.4 * slope() * MASK) ** 2).sqrt()
    assert_close(stderr, expected, rtol=1e-3, atol=0)


def test_padding_has_no_error() -> None:
    e_EBL = torch.stack([E_BL * 0.5, E_BL, E_BL * 1.5])
    stderr, _ = errors(e_EBL, relative=0.25, doubt=0.1)
    assert (stderr[:, 2] == 0).all()
    assert (stderr[:, :2] > 0).all()


@torch.no_grad()
def test_the_doubt_is_what_the_median_item_gains() -> None:
    """The touch's effect less the doubt is its effect measured against the catalogue's median instead."""
    table = made_table()
    model, batch = made_model(table, members=1), table.batch(torch.arange(4))
    t, x_BP = batch.treatment, batch.profile_BP
    m_BLK = model.prior(t.cluster_BL, t.content_BLD, x_BP)[0]
    median_B1K = model.prior.over_catalogue(x_BP)[0].median(1, keepdim=True).values
    from_median_BL = (model.decay(t.gap_hours_BL) * (m_BLK - median_B1K)).sum(-1)
    assert_close(model.effects(t, x_BP) - model.level_doubt(t, x_BP), from_median_BL)
    assert (model.level_doubt(t, x_BP) > 0).all()
