from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_table import made_model, made_table
from torch.testing import assert_close

from model.adversary import TrustedViewAdversary, journey_features, reverse_gradient
from model.module import FrontDoorModule, plan_schedule
from model.settings import TrainConfig


def test_the_gradient_is_reversed_and_scaled_and_the_value_kept() -> None:
    value = torch.tensor([1.5, -2.0], requires_grad=True)
    seen = reverse_gradient(value, 0.7)
    assert_close(seen, value)
    (seen * torch.tensor([1.0, 10.0])).sum().backward()
    assert_close(value.grad, torch.tensor([-0.7, -7.0]))


def test_features_by_hand_on_long_and_short_journeys() -> None:
    """z = (1, 2, 4), (3, ·, ·) and nothing, with d = (.5, .5, 1), where padding holds 9:

    decayed sums .5 + 1 + 4 and 1.5; means 7/3 and 3; last two 2 + 4, and 3 alone.
    """
    z_BLK = torch.tensor([[1.0, 2.0, 4.0], [3.0, 9.0, 9.0], [9.0, 9.0, 9.0]])[..., None]
    d_BLK = torch.tensor([[0.5, 0.5, 1.0]] * 3)[..., None]
    mask_BL1 = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])[..., None]
    expected = torch.tensor([[5.5, 7 / 3, 6.0], [1.5, 3.0, 3.0], [0.0, 0.0, 0.0]])
    assert_close(journey_features(z_BLK, d_BLK, mask_BL1), expected)


def test_features_of_every_dimension() -> None:
    z_BLK = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])
    features = journey_features(z_BLK, torch.ones_like(z_BLK), torch.ones(1, 2, 1))
    assert_close(features, torch.tensor([[3.0, -3.0, 1.5, -1.5, 3.0, -3.0]]))


def test_only_the_error_is_pushed_and_only_the_discriminator_learns_the_rest() -> None:
    """D's loss falls with D's weights and rises with the error; pool, profile and trusted view bring it no gradient."""
    torch.manual_seed(0)
    adversary = TrustedViewAdversary(dims=1, profile_dim=2, hidden=8)
    error = torch.randn(16, 3, 1, requires_grad=True)
    y = (error.detach().sum((1, 2)) > 0).float()
    rest = {
        "trusted_BL": torch.randn(16, 3), "d_BLK": torch.ones(16, 3, 1), "mask_BL": torch.ones(16, 3),
        "pool_BH": torch.randn(16, 8), "profile_BP": torch.randn(16, 2),
    }  # fmt: skip

    def loss(strength: float) -> torch.Tensor:
        logit_B = adversary(error_BLK=error, strength=strength, **rest)
        return torch.nn.functional.binary_cross_entropy_with_logits(logit_B, y)

    (pushed,) = torch.autograd.grad(loss(2.0), error)
    (honest,) = torch.autograd.grad(loss(-1.0), error)  # reversed twice
    assert_close(pushed, -2 * honest)
    assert honest.abs().sum() > 0
    (silent,) = torch.autograd.grad(loss(0.0), error)
    assert (silent == 0).all()


@pytest.mark.parametrize(
    ("responses", "changes", "guarded"),
    [
        (("watch_ratio", "liked"), {}, True),
        (("watch_ratio", "liked"), {"trusted_response": "liked"}, True),
        (("liked", "saved"), {}, False),
        (("watch_ratio",), {}, False),
        ((), {}, False),
        (("watch_ratio", "liked"), {"adversary_weight": 0.0}, False),
    ],
)
def test_there_is_an_adversary_where_a_trusted_response_stands_beside_others(
    responses: tuple[str, ...], changes: dict[str, object], guarded: bool
) -> None:
    table = made_table(responses=responses)
    config = replace(TrainConfig(), **changes)  # type: ignore[arg-type]
    module = FrontDoorModule(made_model(table), config, plan_schedule(config, 10))
    assert (module.adversary is not None) is guarded
    losses, _ = module.losses(table.batch(torch.arange(4)))
    assert ("adversary" in losses) is guarded
    assert losses["loss"].isfinite()


@pytest.mark.parametrize(("step", "reached"), [(0, set()), (1_000_000, {"index"})])
def test_the_adversary_reaches_the_index_alone_and_not_at_once(
    step: int, reached: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the ramp's foot and after it, against no adversary: whose gradients differ."""
    monkeypatch.setattr(FrontDoorModule, "global_step", step)
    table = made_table()
    batch = table.batch(torch.arange(30))
    gradients = []
    for weight in (0.0, 1.0):
        config = replace(TrainConfig(), adversary_weight=weight)
        module = FrontDoorModule(made_model(table), config, plan_schedule(config, 10))
        module.eval().losses(batch)[0]["loss"].backward()
        gradients.append({name: p.grad for name, p in module.model.named_parameters() if p.grad is not None})
    without, under = gradients
    moved = {name.split(".")[0] for name in without if not torch.allclose(without[name], under[name], atol=1e-7)}
    assert moved == reached
