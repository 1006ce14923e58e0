from __future__ import annotations

import torch
from torch.testing import assert_close

from model.link import Decay, SaturatingLink
from model.losses import demean, masked_variance, mediator_loss
from model.response_index import ResponseIndex


def test_decay_starts_at_one_and_falls() -> None:
    d = Decay()(torch.tensor([[0.0, 1.0, 24.0, 500.0]]))[0]
    assert_close(d[0], torch.tensor(1.0))
    assert (d.diff() < 0).all()
    assert d[-1] > 0


def test_link_has_slope_one_at_zero_and_saturates_at_kappa() -> None:
    link = SaturatingLink()
    M = torch.tensor([0.0], requires_grad=True)
    link(M).sum().backward()
    assert_close(M.grad, torch.tensor([1.0]))
    inverse = torch.nn.functional.softplus(link.curvature) + 1e-3
    assert_close(link(torch.tensor([1e6])), 1 / inverse.detach()[None], check_dtype=False)


def test_index_rises_with_watch_time_and_ignores_missing_flags() -> None:
    index = ResponseIndex(("watch_ratio", "liked"))
    watch_L = torch.linspace(0.01, 0.99, 20)
    u_L = index(torch.stack([watch_L, torch.zeros(20)], -1)[None])[0]
    assert (u_L.diff() > 0).all()
    assert index(torch.zeros(2, 3, 2)).shape == (2, 3)


def test_index_of_nothing_is_zero() -> None:
    assert_close(ResponseIndex(())(torch.zeros(2, 3, 0)), torch.zeros(2, 3))


def test_mediator_loss_by_hand() -> None:
    """Journey one: m = (1, 3), u = (0, 4), demeaned (−1, 1) and (−2, 2): squared errors 1 + 1.

    Journey two has one touch, which demeans to 0 whatever it is. Three touches, variance 2: loss = 2 / (3 · 2).
    """
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    m, u = torch.tensor([[1.0, 3.0], [9.0, 9.0]]), torch.tensor([[0.0, 4.0], [-5.0, 7.0]])
    assert_close(mediator_loss(m, u, mask, torch.tensor(2.0)), torch.tensor(2 / 6))
    assert_close(demean(u, mask), torch.tensor([[-2.0, 2.0], [0.0, 0.0]]))
    assert_close(masked_variance(u, mask), torch.tensor([0.0, 4.0, -5.0]).var(correction=0))


def test_mediator_loss_sends_no_gradient_to_the_index() -> None:
    m, u = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    mediator_loss(m, u, torch.ones(2, 3), torch.tensor(1.0)).backward()
    assert m.grad is not None
    assert u.grad is None
