from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_table import made_model, made_table
from torch import Tensor
from torch.testing import assert_close

from model.data import JourneyTable, TouchEvidence
from model.evidence import Noise, fit_denoiser, measure_noise, with_evidence
from model.front_door import FrontDoorModel


def told(table: JourneyTable, model: FrontDoorModel) -> TouchEvidence:
    evidence = with_evidence(model, table).evidence
    assert evidence is not None
    return evidence


def test_evidence_is_the_index_against_the_prior_at_every_touch() -> None:
    table = made_table(journeys=3, overlap=2)
    model = made_model(table)
    model.get_buffer("reference_level_K").fill_(0.3)
    batch = with_evidence(model, table).batch(torch.tensor([1, 5]))
    assert batch.evidence is not None
    with torch.no_grad():
        m_BLK = model.mediator(batch.treatment, batch.profile_BP).mean(0)
        u_BLK = model.index(batch.response_BLR) - 0.3
    assert_close(batch.evidence.mediator_BLK, m_BLK)
    assert_close(batch.evidence.residual_BLK, (u_BLK - m_BLK) * batch.treatment.mask_BL[..., None])


def test_history_is_the_mean_of_the_users_earlier_touches() -> None:
    table = made_table(users=4, journeys=3, touches=2, overlap=1)
    evidence = told(table, made_model(table))
    assert evidence.earlier_J.tolist() == [0, 1, 3] * 4
    residual_N = evidence.residual_NK[:, 0]
    expected = torch.tensor([[0.0, residual_N[6 * u], residual_N[6 * u : 6 * u + 3].mean()] for u in range(4)])
    assert_close(evidence.history_JK[:, 0], expected.flatten())


def test_history_knows_nothing_of_what_comes_after_it() -> None:
    """Everything from a journey's first touch on is altered: its history stays bit for bit, later ones move."""
    table = made_table(users=5, journeys=4, overlap=2)
    model, row = made_model(table), 6
    start = int(table.offset_J[row])
    altered_NR = table.response_NR.clone()
    altered_NR[start:] = 1 - altered_NR[start:]
    altered = replace(
        table,
        response_NR=altered_NR,
        touch_item_N=torch.cat([table.touch_item_N[:start], table.touch_item_N[start:].flip(0)]),
        label_J=1 - table.label_J,
    )
    before, after = told(table, model), told(altered, model)
    assert torch.equal(before.history_JK[: row + 1], after.history_JK[: row + 1])
    assert torch.equal(before.earlier_J, after.earlier_J)
    assert not torch.equal(before.history_JK[row + 1], after.history_JK[row + 1])


def test_a_journey_does_not_see_a_later_profile() -> None:
    """Journeys share touches; the second's profile was written after the first's outcome."""
    table = made_table(users=1, journeys=2, overlap=3)
    model = made_model(table)
    later_JP = table.profile_JP.clone()
    later_JP[1] += 5
    before, after = (with_evidence(model, t) for t in (table, replace(table, profile_JP=later_JP)))
    assert_close(mediators(before, 0), mediators(after, 0))
    assert not torch.equal(mediators(before, 1), mediators(after, 1))


def mediators(table: JourneyTable, row: int) -> Tensor:
    """m − ref(x) of one journey's touches. [L]."""
    evidence = table.batch(torch.tensor([row])).evidence
    assert evidence is not None
    return evidence.mediator_BLK[0, :, 0]


def test_touches_in_no_journey_say_nothing() -> None:
    """Two touches before each journey's four belong to none: no evidence, and they do not count as history."""
    table = made_table(users=3, journeys=2, stray=2)
    evidence = told(table, made_model(table))
    stray_N = (torch.arange(len(table.touch_ts_N)) % 6) < 2
    assert (evidence.residual_NK[stray_N] == 0).all()
    assert (evidence.mediator_NK[stray_N] == 0).all()
    assert (evidence.residual_NK[~stray_N] != 0).all()
    assert evidence.earlier_J.tolist() == [0, 4] * 3


def test_touches_without_a_response_say_nothing() -> None:
    """No residual, no part in the history; nor do they move the joint fit, whatever stands in their place."""
    table = made_table(users=3, journeys=2)
    silent_N = torch.arange(len(table.touch_ts_N)) % 4 == 1
    table = replace(table, response_NR=table.response_NR.masked_fill(silent_N[:, None], torch.nan))
    model = made_model(table)
    evidence = told(table, model)
    assert (evidence.residual_NK[silent_N] == 0).all()
    assert (evidence.mediator_NK[silent_N] != 0).all()
    assert evidence.earlier_J.tolist() == [0, 3] * 3
    batch = table.batch(torch.arange(6))
    u_BLK = model.index(batch.response_BLR)
    moved_BLK = u_BLK + batch.response_BLR.isnan().all(-1, keepdim=True)
    assert_close(model.joint_logit(batch, moved_BLK), model.joint_logit(batch, u_BLK))


ETA, NOISE, LEVEL, M = 0.5, 0.4, 0.3, 0.6
"""Standard deviations of the responses below."""


@torch.no_grad()
def measured(table: JourneyTable, model: FrontDoorModel, *, curved: bool = False) -> Noise:
    """Responses with known moments: logit(watch) / 2 = m + η + noise + level, P(liked) = Φ(m + η).

    Curved: no η, but both responses bend with m, the flag standing for several. The index is made to read
    u = logit(watch) / 2, so that the residual is u − m.
    """
    g = torch.Generator().manual_seed(4)
    N = len(table.touch_ts_N)

    def normal(sd: float, size: int = N) -> Tensor:
        return sd * torch.randn(size, generator=g)

    curve = model.index.h_watch
    assert curve is not None
    curve.slope_K.data.fill_(torch.tensor(1.0).expm1().log())
    curve.height_KQ.data.fill_(-30.0)
    if model.index.h_flags is not None:
        model.index.h_flags[2].weight.data.zero_()
    m_N, eta_N = normal(M), normal(0.0 if curved else ETA)
    level_N = normal(LEVEL, len(table.keys)).repeat_interleave(table.length_J)
    bend_N = 0.4 * m_N**2 if curved else torch.zeros(N)
    residual_N = bend_N + eta_N + normal(NOISE) + level_N
    liked_N = m_N + bend_N + normal(1.0) if curved else (m_N + eta_N + normal(1.0) > 0).float()
    evidence = TouchEvidence(
        mediator_NK=m_N[:, None],
        residual_NK=residual_N[:, None],
        observed_N=torch.ones(N),
        history_JK=torch.zeros(len(table.keys), 1),
        earlier_J=torch.zeros(len(table.keys)),
    )
    responses = {"watch_ratio": torch.sigmoid(2 * (m_N + residual_N)), "liked": liked_N}
    response_NR = torch.stack([responses[name] for name in table.sizes.responses], 1)
    return measure_noise(model, replace(table, response_NR=response_NR, evidence=evidence))


def test_moments_of_known_responses() -> None:
    """v = σ_η² + σ_noise², ρ = σ_η² / v, τ² = σ_level²."""
    table = made_table(users=10_000, journeys=1, touches=6)
    noise = measured(table, made_model(table))
    v = ETA**2 + NOISE**2
    assert_close(noise.within_variance_K, torch.tensor([v]), rtol=0.02, atol=0)
    assert_close(noise.reliability_K, torch.tensor([ETA**2 / v]), rtol=0.05, atol=0)
    assert_close(noise.level_variance_K, torch.tensor([LEVEL**2]), rtol=0.07, atol=0)
    assert abs(float(noise.mean_residual_K)) < 0.02
    assert not noise.leak_suspected


def test_responses_that_bend_alike_are_no_mediator() -> None:
    """Both groups follow m² too: without η they share nothing that is not content."""
    table = made_table(users=10_000, journeys=1, touches=6)
    assert abs(float(measured(table, made_model(table), curved=True).reliability_K)) < 0.05


def test_one_group_of_responses_has_no_reliability() -> None:
    table = made_table(users=500, responses=("watch_ratio",))
    model = made_model(table)
    noise = measured(table, model)
    assert noise.reliability_K.isnan().all()
    assert not noise.leak_suspected
    fit_denoiser(model, table)
    assert float(model.denoise.get_buffer("reliability_K")) == 1


def test_a_fitted_denoiser_centres_the_residual_and_bounds_the_reliability() -> None:
    table = made_table(users=500)
    model = made_model(table)
    model.get_buffer("reference_level_K").fill_(5.0)
    fitted, noise = fit_denoiser(model, table)
    assert float(noise.mean_residual_K) < -3
    assert abs(float(measure_noise(model, fitted).mean_residual_K)) < 1e-4
    assert 0.05 <= float(model.denoise.get_buffer("reliability_K")) <= 1
    assert_close(model.denoise.get_buffer("within_variance_K"), noise.within_variance_K)


@pytest.mark.parametrize(("reliability", "alarm"), [(0.5, False), (3.9, False), (17.0, True), (float("nan"), False)])
def test_responses_that_agree_on_more_than_the_residual_are_an_alarm(reliability: float, alarm: bool) -> None:
    one = torch.ones(1)
    noise = Noise(reliability_K=one * reliability, within_variance_K=one, level_variance_K=one, mean_residual_K=one)
    assert noise.leak_suspected is alarm
