"""The published model's parts, each against numbers derived by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_world import Prepared

from features.errors import ConfigError
from model.batch import JourneyBatch, Treatment
from model.data import load_journeys
from model.paper.adversary import ramp, reverse_gradient
from model.paper.credits import PaperBank, top_matches
from model.paper.heads import match_query
from model.paper.proxy import match_proxy
from model.paper.queue import KeyQueue, follow, info_nce
from model.paper.settings import PaperConfig
from model.paper.weights import Propensity, fit_propensity


def test_reversal_is_the_identity_forward_and_minus_lambda_backward() -> None:
    """d(3 h²)/dh = 6 h = 12 at h = 2; reversed with λ = .5 it is −6."""
    h = torch.tensor(2.0, requires_grad=True)
    passed = reverse_gradient(h, 0.5)
    assert float(passed.detach()) == 2
    (3 * passed**2).backward()  # type: ignore[no-untyped-call]
    assert h.grad is not None
    assert float(h.grad) == -6


def test_ramp_starts_at_nothing_and_ends_at_lambda() -> None:
    assert ramp(0) == 0
    assert ramp(1) == pytest.approx(1, abs=1e-4)
    assert ramp(0.1) == pytest.approx(math.tanh(0.5))


def test_queue_is_first_in_first_out_without_gradient() -> None:
    """Pushed in turns of two into three places: 4 and 3 overwrite 1 and 0."""
    queue = KeyQueue(3, 1)
    assert queue.held().shape == (0, 1)
    for keys in ([0.0, 1.0], [2.0, 3.0], [4.0]):
        queue.push(torch.tensor(keys, requires_grad=True)[:, None])
    assert sorted(queue.held().flatten().tolist()) == [2, 3, 4]
    assert not queue.held().requires_grad
    queue.push(torch.arange(10.0)[:, None])
    assert sorted(queue.held().flatten().tolist()) == [7, 8, 9]


def test_info_nce_by_hand() -> None:
    """q·k⁺ = 1 against q·k = 0 at temperature ½: −log e² / (e² + 1); the gradient reaches the query only."""
    query = torch.tensor([[1.0, 0.0]], requires_grad=True)
    key = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = info_nce(query, key, torch.tensor([[0.0, 1.0]]), temperature=0.5)
    assert float(loss.detach()) == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 1)), rel=1e-6)
    loss.backward()  # type: ignore[no-untyped-call]
    assert key.grad is None
    assert query.grad is not None
    assert float(query.grad.abs().sum()) > 0
    assert float(info_nce(query, key, torch.zeros(0, 2), temperature=0.5).detach()) == 0


def test_key_encoder_follows_slowly() -> None:
    query, key = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    query.weight.data.fill_(1.0)
    key.weight.data.fill_(0.0)
    follow(key, query, momentum=0.9)
    assert float(key.weight.detach()) == pytest.approx(0.1)


def batch_of(content: list[list[float]], label: float, upload: list[float]) -> JourneyBatch:
    """One journey with these touches and then one place of padding."""
    L = len(content) + 1
    nothing_1L = torch.zeros(1, L)
    mask_1L = torch.tensor([[1.0] * (L - 1) + [0.0]])
    treatment = Treatment(
        cluster_BL=nothing_1L.long(), content_BLD=torch.tensor([[*content, [0.0, 0.0]]]), gap_hours_BL=nothing_1L,
        mask_BL=mask_1L,
    )  # fmt: skip
    return JourneyBatch(
        treatment=treatment, response_BLR=torch.zeros(1, L, 0), profile_BP=torch.zeros(1, 1),
        control_BC=torch.zeros(1, 1), label_B=torch.tensor([label]), upload_BD=torch.tensor([upload]),
    )  # fmt: skip


def test_proxy_by_hand() -> None:
    """Cosines with (1, 0): 1, 1/√2 and −1, which counts as no match; padding is no touch."""
    proxy_BL, known_BL = match_proxy(batch_of([[2.0, 0.0], [1.0, 1.0], [-1.0, 0.0]], 1, [1.0, 0.0]))
    torch.testing.assert_close(proxy_BL, torch.tensor([[1.0, 0.5**0.5, 0.0, 0.0]]))
    assert known_BL.tolist() == [[1, 1, 1, 0]]


def test_proxy_is_zero_without_an_upload_and_unknown_without_its_embedding() -> None:
    nan = float("nan")
    proxy_BL, known_BL = match_proxy(batch_of([[2.0, 0.0]], 0, [nan, nan]))
    assert (proxy_BL.tolist(), known_BL.tolist()) == ([[0, 0]], [[1, 0]])
    assert match_proxy(batch_of([[2.0, 0.0]], 0, [2.0, 0.0]))[0].tolist() == [[0, 0]]
    proxy_BL, known_BL = match_proxy(batch_of([[2.0, 0.0]], 1, [nan, nan]))
    assert (proxy_BL.tolist(), known_BL.tolist()) == ([[0, 0]], [[0, 0]])


def test_query_ignores_padding() -> None:
    projected = torch.tensor([[[1.0, 0.0], [0.0, 5.0]]])
    query = match_query(projected, torch.tensor([[0.0, 100.0]]), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(query, torch.tensor([[1.0, 0.0]]))


def test_top_matches_are_the_nearest_only() -> None:
    bank = PaperBank(
        effect_JH=torch.zeros(3, 1), count_JK=torch.zeros(3, 1),
        query_JE=torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]),
    )  # fmt: skip
    query = torch.tensor([[0.8, 0.6]])
    assert top_matches(query, bank, 1).tolist() == [[0]]
    assert sorted(top_matches(query, bank, 2)[0].tolist()) == [0, 1]
    assert sorted(top_matches(query, bank, 0)[0].tolist()) == [0, 1, 2]


NUMBER = -2
"""Column of the world's last numeric profile: before the flag of a missing profile."""


def test_propensity_recovers_who_is_shown_what(prepared: Prepared) -> None:
    """Clusters redrawn by p(c = 0 | x) = σ(x): the weight of a touch of it is p(c) / σ(x), clipped."""
    table = load_journeys(prepared.journeys, prepared.data)
    generator = torch.Generator().manual_seed(4)
    owner_N = torch.repeat_interleave(torch.arange(len(table.length_J)), table.length_J)
    order_N = torch.cat([torch.arange(o, o + n) for o, n in zip(table.offset_J, table.length_J, strict=True)])
    x_N = table.profile_JP[owner_N, NUMBER]
    table.touch_cluster_N[order_N] = (torch.rand(len(x_N), generator=generator) > torch.sigmoid(x_N)).long()
    propensity = Propensity(profile_dim=table.sizes.profile_dim, clusters=table.sizes.clusters, clip=1000.0)
    fit_propensity(propensity, table, generator, ridge=1e-3)
    x_BP = table.profile_JP.mean(0).repeat(2, 1)
    x_BP[:, NUMBER] = torch.tensor([-1.0, 1.0])
    p_B = torch.softmax(x_BP @ propensity.get_buffer("slope_PK") + propensity.get_buffer("bias_K"), 1)[:, 0]
    torch.testing.assert_close(p_B, torch.sigmoid(x_BP[:, NUMBER]), atol=0.02, rtol=0)
    share = float(
        (table.touch_cluster_N[order_N[table.keys["split"].to_numpy()[owner_N] == "fit"]] == 0).float().mean()
    )
    one = Treatment(
        cluster_BL=torch.zeros(2, 1, dtype=torch.int64), content_BLD=torch.zeros(2, 1, 1),
        gap_hours_BL=torch.zeros(2, 1), mask_BL=torch.ones(2, 1),
    )  # fmt: skip
    ratio = propensity.weight(one, x_BP) * propensity.get_buffer("mean_weight")
    torch.testing.assert_close(ratio, share / torch.sigmoid(x_BP[:, NUMBER]), atol=0.05, rtol=0.05)
    likeness = propensity.likeness(x_BP, propensity.counts(one))
    torch.testing.assert_close(likeness.diagonal(), -ratio.log())


def test_weights_are_clipped(prepared: Prepared) -> None:
    table = load_journeys(prepared.journeys, prepared.data)
    propensity = Propensity(profile_dim=table.sizes.profile_dim, clusters=table.sizes.clusters, clip=2.0)
    fit_propensity(propensity, table, torch.Generator().manual_seed(5))
    batch = table.batch(table.split("fit"))
    weight_J = propensity.weight(batch.treatment, batch.profile_BP)
    assert float(weight_J.mean()) == pytest.approx(1, abs=1e-4)
    assert float(weight_J.max() / weight_J.min()) == pytest.approx(4, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"top_k": 600}, "paper.top_k = 600"),
        ({"contrastive": False}, "without paper.contrastive"),
        ({"weight_clip": 1.0}, "weight_clip = 1.0"),
        ({"negatives_per_positive": -1.0}, "negatives_per_positive = -1.0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        PaperConfig(**settings)
