from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from made_table import made_model, made_table
from torch import Tensor, nn

from model.bank import build_bank
from model.calibration import (
    KAPPA_G,
    LARGEST,
    LEAST_JOURNEYS,
    PRIOR_ERROR,
    SMALLEST,
    UNKNOWN_ERROR,
    Noise,
    calibrate,
    combine,
)  # fmt: skip
from model.data import JourneyTable
from model.evidence import with_evidence
from model.front_door import FrontDoorModel, marginal_game
from model.moment import Moment, randomised_moment


class KnownPrior(nn.Module):
    """m = a quarter of the content's first coordinate, for everyone. [.., L, D] -> [.., L, 1]."""

    def forward(self, cluster: Tensor, content: Tensor, profile_BP: Tensor) -> Tensor:  # noqa: ARG002
        return 0.25 * content[..., :1].expand(len(profile_BP), -1, 1)


def experiment(truth: float, *, users: int = 4_000, randomised: float = 0.7) -> tuple[FrontDoorModel, JourneyTable]:
    """Uploads drawn from a model whose effects were `truth` times what it says now; some exposures were random.

    A link all but linear; a wide kernel, so that the bank's weights do not hang on the uploads.
    """
    g = torch.Generator().manual_seed(2)
    table = made_table(users=users, journeys=2, touches=6)
    model = made_model(table, bank_bandwidth=1e6)
    model.link.curvature.data.fill_(-30.0)
    model.confounder.head.bias.data.sub_(1)
    model.prior.members = nn.ModuleList([KnownPrior()])
    table = replace(table, touch_randomised_N=torch.rand(len(table.touch_ts_N), generator=g) < randomised)
    table = with_evidence(model, table)
    model.get_buffer("kappa").fill_(truth)
    p_J = outcome(model, table)
    model.get_buffer("kappa").fill_(1.0)
    return model, replace(table, label_J=(torch.rand(len(p_J), generator=g) < p_J).float())


@torch.no_grad()
def outcome(model: FrontDoorModel, table: JourneyTable) -> Tensor:
    """P(Y=1 | do T, x) of every journey."""
    batch = table.batch(torch.arange(len(table.keys)))
    game = marginal_game(model, build_bank(model, table, 7), batch.profile_BP)
    return game.value(model.effects(batch.treatment, batch.profile_BP).sum(1, keepdim=True))[:, 0]


@pytest.mark.parametrize(("truth", "lower", "upper"), [(1.0, 0.85, 1.15), (2.0, 1.7, 2.15), (0.5, 0.4, 0.7)])
def test_randomised_exposures_find_the_scale(truth: float, lower: float, upper: float) -> None:
    """Shrunk toward 1 by as much as they are uncertain."""
    model, table = experiment(truth)
    found = calibrate(model, table, 7, None)
    assert found.source == "randomised"
    assert lower < found.kappa < upper
    assert found.relative_error < 0.5
    assert float(model.get_buffer("kappa")) == pytest.approx(found.kappa)
    assert float(model.get_buffer("kappa_relative_error")) == pytest.approx(found.relative_error)


def test_fewer_randomised_exposures_say_less() -> None:
    found = [calibrate(*experiment(2.0, randomised=share), 7, None) for share in (0.05, 0.5)]
    assert found[0].relative_error > found[1].relative_error
    assert min(found[0].kappa, found[1].kappa) > 1.3


@pytest.mark.parametrize(
    ("randomised_users", "calibrates", "journeys"),
    [
        (range(0), True, 0),
        (range(3_200, 4_000), True, 0),  # the judge's, whom no model may be fitted on
        (range(LEAST_JOURNEYS // 2 - 1), True, LEAST_JOURNEYS - 2),
        (range(3_200), False, 6_400),
    ],
    ids=["none", "judge", "too few", "switched off"],
)
def test_without_enough_randomised_exposures_the_scale_stays(
    randomised_users: range, calibrates: bool, journeys: int
) -> None:
    model, table = experiment(2.0)
    model.config = replace(model.config, calibrate=calibrates)
    user_N = torch.arange(len(table.touch_ts_N)) // 12
    randomised_N = (user_N >= randomised_users.start) & (user_N < randomised_users.stop)
    found = calibrate(model, replace(table, touch_randomised_N=randomised_N), 7, None)
    assert (found.kappa, found.relative_error, found.source) == (1.0, UNKNOWN_ERROR, "none")
    assert found.randomised_journeys == journeys
    assert float(model.get_buffer("kappa")) == 1


def moment(f: Callable[[Tensor], Tensor], variance: float) -> Moment:
    return Moment(kappa_G=KAPPA_G, f_G=f(KAPPA_G), variance=variance)


def test_scale_and_error_by_hand() -> None:
    V, prior = 0.09, 1 / PRIOR_ERROR**2
    kappa, error = combine(moment(lambda kappa_G: 0.3 - 0.6 * kappa_G, V), PRIOR_ERROR)
    assert kappa == pytest.approx((0.3 * 0.6 / V + prior) / (0.6**2 / V + prior), abs=1e-3)
    assert error == pytest.approx((0.6**2 / V + prior) ** -0.5 / kappa, rel=1e-3)


@pytest.mark.parametrize(("left", "expected"), [(99.0, LARGEST), (-99.0, SMALLEST)])
def test_the_scale_stays_within_its_range(left: float, expected: float) -> None:
    assert combine(moment(lambda kappa_G: left - kappa_G, 1e-6), PRIOR_ERROR)[0] == pytest.approx(expected, abs=0.01)


def test_exposures_that_the_scale_does_not_move_say_nothing() -> None:
    still = moment(lambda kappa_G: torch.full_like(kappa_G, -0.2), 0.08)
    assert combine(still, PRIOR_ERROR) == pytest.approx((1, PRIOR_ERROR), abs=1e-3)


def test_the_moment_by_its_definition() -> None:
    """f(κ) and V with the model's own κ, one κ at a time."""
    model, table = experiment(1.0, users=200)
    row_R, item_I = table.split("fit")[:90], torch.arange(5)
    found = randomised_moment(model, table, row_R, item_I, KAPPA_G, 7)
    batch, (position_BL, mask_BL) = table.batch(row_R), table.positions(row_R)
    random_BL = table.touch_randomised_N[position_BL] & mask_BL
    m_BL = 0.25 * batch.treatment.content_BLD[..., 0]
    typical = 0.25 * float(table.content_ID[table.touch_item_N[item_I], 0].mean())
    d_BL = model.decay(batch.treatment.gap_hours_BL)[..., 0]
    z_B = (model.log_scale.exp() * d_BL * (m_BL - typical) * random_BL).sum(1)
    for index in (0, 8, 12):
        model.get_buffer("kappa").fill_(float(KAPPA_G[index]))
        summand_B = ((z_B - z_B.mean()) * (batch.label_B - outcome(model, table)[row_R])).detach().double()
        assert float(found.f_G[index]) == pytest.approx(float(summand_B.sum()), abs=1e-4)
        if index == 8:
            assert found.variance == pytest.approx(len(row_R) * float(summand_B.var()), rel=1e-4)


@pytest.mark.parametrize(
    ("reliability", "source", "kept"),
    [(0.4, "reliability", 0.4), (float("nan"), "none", None)],
)
def test_the_source_of_the_scale_is_told(reliability: float, source: str, kept: float | None) -> None:
    table = made_table()
    one = torch.ones(1)
    noise = Noise(reliability_K=one * reliability, within_variance_K=one, level_variance_K=one, mean_residual_K=one)
    found = calibrate(made_model(table), table, 7, noise)
    assert found.source == source
    assert found.reliability == [pytest.approx(kept) if kept else None]
