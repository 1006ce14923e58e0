"""Recurrent peers: a touch taken out of a journey leaves the journey without it, not a hole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.methods.causal_mta import Predictor
from benchmarks.methods.dnamta import Dnamta
from benchmarks.methods.reweighting import MAX_WEIGHT, DomainClassifier, SequenceVae
from benchmarks.methods.sequences import masked_softmax, removal
from model.batch import JourneyBatch, Treatment
from model.front_door import Sizes

SIZES = Sizes(clusters=5, content_dim=3, profile_dim=2, control_dim=1, responses=())


def journey(cluster: list[int], length: int, content_LD: Tensor, gap_L: Tensor) -> Treatment:
    """One journey of these clusters, padded to `length`."""
    real, pad = len(cluster), length - len(cluster)
    return Treatment(
        cluster_BL=torch.tensor([cluster + [0] * pad]),
        content_BLD=torch.nn.functional.pad(content_LD[:real], (0, 0, 0, pad))[None],
        gap_hours_BL=torch.nn.functional.pad(gap_L[:real], (0, pad))[None],
        mask_BL=torch.tensor([[1.0] * real + [0.0] * pad]),
    )


def batch_of(t: Treatment, z_BP: Tensor) -> JourneyBatch:
    rows = len(z_BP)
    return JourneyBatch(
        treatment=t, response_BLR=torch.zeros(rows, t.mask_BL.shape[1], 0), profile_BP=z_BP,
        control_BC=torch.zeros(rows, 1), label_B=torch.zeros(rows),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["dnamta", "causal-mta"])
def test_removal_is_the_difference_to_the_shorter_journey(kind: str) -> None:
    torch.manual_seed(0)
    content_LD, gap_L, z_BP = torch.randn(3, 3), torch.tensor([5.0, 2.0, 0.5]), torch.randn(1, 2)
    network = Dnamta(SIZES) if kind == "dnamta" else Predictor(SIZES)

    @torch.no_grad()
    def probability(t: Treatment, z: Tensor) -> Tensor:
        return torch.sigmoid(network.logit(t, z) if isinstance(network, Dnamta) else network.outcome(t, z)[0])

    padded = journey([1, 4, 2], 5, content_LD, gap_L)
    delta_BL = removal(probability, batch_of(padded, z_BP))
    full = probability(journey([1, 4, 2], 3, content_LD, gap_L), z_BP)
    for gone, rest in ((0, [1, 2]), (1, [0, 2]), (2, [0, 1])):
        kept = journey([[1, 4, 2][i] for i in rest], 2, content_LD[rest], gap_L[rest])
        assert float(delta_BL[0, gone]) == pytest.approx(float(full - probability(kept, z_BP)), abs=1e-6)
        assert abs(float(delta_BL[0, gone])) > 1e-5
    assert delta_BL[0, 3:].tolist() == [0.0, 0.0]


def test_the_only_touch_can_be_removed() -> None:
    torch.manual_seed(0)
    network, z_BP = Dnamta(SIZES), torch.randn(1, 2)
    single = journey([3], 1, torch.randn(1, 3), torch.ones(1))
    delta_BL = removal(lambda t, z: torch.sigmoid(network.logit(t, z)).detach(), batch_of(single, z_BP))
    assert delta_BL.shape == (1, 1)
    assert torch.isfinite(delta_BL).all()


def test_attention_is_a_distribution_over_real_touches() -> None:
    weight_BL = masked_softmax(
        torch.tensor([[1.0, 2.0, 50.0], [0.0, 0.0, 0.0]]), torch.tensor([[1.0, 1, 0], [0, 0, 0]])
    )
    assert weight_BL[0].tolist() == pytest.approx([1 / (1 + torch.e), torch.e / (1 + torch.e), 0.0], abs=1e-6)
    assert weight_BL[1].tolist() == [0.0, 0.0, 0.0]


def test_journey_weights_are_small_where_the_user_alone_would_make_the_journey() -> None:
    """A classifier that is sure of a pair, d / (1 − d) large, gives it little weight; bounds and mean hold."""
    torch.manual_seed(0)
    domain = DomainClassifier(SequenceVae(SIZES), SIZES)
    domain.logit = lambda latent, z: 3 * z[:, 0]  # type: ignore[method-assign]  # noqa: ARG005
    z_BP = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    both = journey([1, 4, 2], 3, torch.randn(3, 3), torch.ones(3))
    twice = Treatment(**{name: torch.cat([value, value]) for name, value in vars(both).items()})
    weight_B = domain.weight(batch_of(twice, z_BP))
    assert float(weight_B.mean()) == pytest.approx(1)
    assert float(weight_B[1] / weight_B[0]) == pytest.approx(
        MAX_WEIGHT / max(1 / MAX_WEIGHT, float(torch.exp(torch.tensor(-3.0))))
    )
