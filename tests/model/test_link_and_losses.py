from __future__ import annotations

import torch
from torch.testing import assert_close

from model.link import Decay, SaturatingLink
from model.losses import demean, masked_variance, mediator_loss
from model.response_index import ResponseIndex


def test_decay_starts_at_one_and_falls() -> None:
    d_LK = Decay(2)(torch.tensor([[0.0, 1.0, 24.0, 500.0]]))[0]
    assert_close(d_LK[0], torch.ones(2))
    assert (d_LK.diff(dim=0) < 0).all()
    assert (d_LK[-1] > 0).all()


def test_link_has_slope_one_at_zero_and_saturates_at_kappa() -> None:
    link = SaturatingLink()
    M = torch.tensor([0.0], requires_grad=True)
    link(M).sum().backward()
    assert_close(M.grad, torch.tensor([1.0]))
    inverse = torch.nn.functional.softplus(link.curvature) + 1e-3
    assert_close(link(torch.tensor([1e6])), 1 / inverse.detach()[None], check_dtype=False)


def test_index_rises_with_watch_time_in_every_dimension() -> None:
    index = ResponseIndex(("watch_ratio", "liked"), 2)
    watch_L = torch.linspace(0.01, 0.99, 20)
    u_LK = index(torch.stack([watch_L, torch.zeros(20)], -1)[None])[0]
    assert u_LK.shape == (20, 2)
    assert (u_LK.diff(dim=0) > 0).all()


def test_groups_of_responses_add_up_and_read_their_own() -> None:
    index = ResponseIndex(("liked", "watch_ratio", "saved"), 2)
    response = torch.tensor([[[1.0, 0.3, 0.0], [0.0, 0.3, 1.0], [1.0, 0.9, 0.0]]])
    watch_BLK, flags_BLK = index.groups(response)
    assert_close(watch_BLK + flags_BLK, index(response))
    assert_close(watch_BLK[:, 0], watch_BLK[:, 1])
    assert_close(flags_BLK[:, 0], flags_BLK[:, 2])
    assert not torch.equal(flags_BLK[:, 0], flags_BLK[:, 1])
    assert not torch.equal(watch_BLK[:, 0], watch_BLK[:, 2])


def test_missing_watch_counts_as_the_median_and_a_missing_flag_as_not_set() -> None:
    index = ResponseIndex(("watch_ratio", "liked"), 1)
    nan = torch.nan
    index.fill_missing_with(torch.tensor([[0.2, 1.0], [nan, nan], [0.7, nan], [0.9, 0.0]]))
    seen = index(torch.tensor([[[nan, nan], [nan, 1.0], [0.4, nan]]]))
    assert_close(seen, index(torch.tensor([[[0.7, 0.0], [0.7, 1.0], [0.4, 0.0]]])))
    index.fill_missing_with(torch.full((3, 2), nan))  # nothing watched to learn from
    assert_close(index(torch.tensor([[[nan, nan]]])), index(torch.tensor([[[0.7, 0.0]]])))


def test_index_of_nothing_is_zero() -> None:
    assert_close(ResponseIndex((), 2)(torch.zeros(2, 3, 0)), torch.zeros(2, 3, 2))


def test_mediator_loss_by_hand() -> None:
    """Journey one: m = (1, 3), u = (0, 4), demeaned (−1, 1) and (−2, 2): squared errors 1 + 1.

    Journey two has one touch, which demeans to 0 whatever it is. Three touches, variance 2: loss = 2 / (3 · 2).
    A second member m = (0, 4) makes no error, which halves the mean over members.
    """
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    m, u = torch.tensor([[1.0, 3.0], [9.0, 9.0]])[..., None], torch.tensor([[0.0, 4.0], [-5.0, 7.0]])[..., None]
    two = torch.tensor([2.0])
    assert_close(mediator_loss(m[None], u, mask, two), torch.tensor(2 / 6))
    exact = torch.tensor([[0.0, 4.0], [9.0, 9.0]])[..., None]
    assert_close(mediator_loss(torch.stack([m, exact]), u, mask, two), torch.tensor(1 / 6))
    both = mediator_loss(torch.cat([m, m], -1)[None], torch.cat([u, u], -1), mask, torch.tensor([2.0, 4.0]))
    assert_close(both, torch.tensor((2 / 6 + 2 / 12) / 2))
    assert_close(demean(u, mask[..., None])[..., 0], torch.tensor([[-2.0, 2.0], [0.0, 0.0]]))
    variance = torch.tensor([0.0, 4.0, -5.0]).var(correction=0)
    assert_close(masked_variance(u, mask[..., None]), variance[None])


def test_mediator_loss_across_journeys_by_hand() -> None:
    """Without the contrast the errors themselves: (1, −1) and 14, variance 2: loss = (1 + 1 + 196) / (3 · 2)."""
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    m, u = torch.tensor([[1.0, 3.0], [9.0, 9.0]])[..., None], torch.tensor([[0.0, 4.0], [-5.0, 7.0]])[..., None]
    loss = mediator_loss(m[None], u, mask, torch.tensor([2.0]), within_journey=False)
    assert_close(loss, torch.tensor(198 / 6))


def test_mediator_loss_sends_no_gradient_to_the_index() -> None:
    m, u = torch.randn(2, 2, 3, 1, requires_grad=True), torch.randn(2, 3, 1, requires_grad=True)
    mediator_loss(m, u, torch.ones(2, 3), torch.ones(1)).backward()
    assert m.grad is not None
    assert u.grad is None
