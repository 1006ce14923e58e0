from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.testing import assert_close

from model.batch import Evidence, JourneyBatch, Treatment
from model.denoise import Denoiser


def denoiser(*, rho: float, v: float, tau2: float) -> Denoiser:
    denoise = Denoiser(1)
    denoise.get_buffer("reliability_K").fill_(rho)
    denoise.get_buffer("within_variance_K").fill_(v)
    denoise.get_buffer("level_variance_K").fill_(tau2)
    return denoise


def journeys(m_BL: Tensor, residual_BL: Tensor, history_B: Tensor, earlier: float, mask_BL: Tensor) -> JourneyBatch:
    """Journeys of users with `earlier` touches before each; only evidence and mask matter here."""
    B, L = m_BL.shape
    evidence = Evidence(
        mediator_BLK=(m_BL * mask_BL)[..., None],
        residual_BLK=(residual_BL * mask_BL)[..., None],
        observed_BL=mask_BL,
        history_BK=history_B[:, None],
        earlier_B=torch.full((B,), earlier),
    )
    nothing_B = torch.zeros(B)
    t = Treatment(
        cluster_BL=torch.zeros(B, L, dtype=torch.int64), content_BLD=torch.zeros(B, L, 1),
        gap_hours_BL=torch.zeros(B, L), mask_BL=mask_BL,
    )  # fmt: skip
    return JourneyBatch(
        treatment=t, response_BLR=torch.zeros(B, L, 0), profile_BP=torch.zeros(B, 1), control_BC=torch.zeros(B, 1),
        label_B=nothing_B, evidence=evidence,
    )  # fmt: skip


def test_one_journey_by_hand() -> None:
    """ε = (.8, −.4), ε̄ = .2, ρ = .5, v = .6, τ² = .3, three earlier touches of mean .6:

    s = .6 · .3 / (.3 + .2) = .36, w = .3 / (.3 + .3 − .09/.5) = 5/7, w (ε̄ − s) = −.8/7
    û = (.5 + .5 (.6 − .8/7), −.2 + .5 (−.6 − .8/7)), level = .36 / √.3
    """
    batch = journeys(
        torch.tensor([[0.5, -0.2, 9.0]]), torch.tensor([[0.8, -0.4, 9.0]]), torch.tensor([0.6]), 3.0,
        torch.tensor([[1.0, 1.0, 0.0]]),
    )  # fmt: skip
    denoise = denoiser(rho=0.5, v=0.6, tau2=0.3)
    expected = torch.tensor([[0.8 - 0.4 / 7, -0.5 - 0.4 / 7, 0.0]])
    assert_close(denoise(batch)[..., 0], expected)
    assert_close(denoise.level(batch), torch.tensor([[0.36 / 0.3**0.5]]))


def test_as_built_it_changes_nothing() -> None:
    """ρ = 1 and τ² = 0: û = u − r, whatever the history, and a level of zero."""
    g = torch.Generator().manual_seed(1)
    m_BL, residual_BL = torch.randn(5, 3, generator=g), torch.randn(5, 3, generator=g)
    mask_BL = torch.tensor([[1.0, 1.0, 1.0]] * 4 + [[1.0, 0.0, 0.0]])
    batch = journeys(m_BL, residual_BL, torch.randn(5, generator=g), 7.0, mask_BL)
    assert_close(Denoiser(1)(batch)[..., 0], (m_BL + residual_BL) * mask_BL)
    assert_close(Denoiser(1).level(batch), torch.zeros(5, 1))


SD_ETA, SD_NOISE, SD_LEVEL = 0.6, 0.8, 0.7
V = SD_ETA**2 + SD_NOISE**2
FITTING = {"rho": SD_ETA**2 / V, "v": V, "tau2": SD_LEVEL**2}


def simulated(B: int, L: int, earlier: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """ε = η + noise + level of B journeys [B, L], their η, the mean of `earlier` residuals before them, the level."""
    rng = np.random.default_rng(seed)
    level_B1 = SD_LEVEL * rng.normal(size=(B, 1))
    eta_BL = SD_ETA * rng.normal(size=(B, L))
    residual_BL = eta_BL + SD_NOISE * rng.normal(size=(B, L)) + level_B1
    history_B = level_B1[:, 0] + (V / earlier) ** 0.5 * rng.normal(size=B)
    return residual_BL, eta_BL, history_B, level_B1[:, 0]


def test_it_is_the_best_linear_predictor() -> None:
    """Weights of the own residual, the journey's others and the history equal those of a regression of η on them."""
    L, earlier = 3, 5
    residual_BL, eta_BL, history_B, _ = simulated(400_000, L, earlier)
    regressors = np.column_stack([residual_BL, history_B])
    expected, *_ = np.linalg.lstsq(regressors, eta_BL[:, 0], rcond=None)
    unit = torch.eye(L + 1)  # û is linear: its value at a unit input is a weight
    batch = journeys(torch.zeros(L + 1, L), unit[:, :L], unit[:, L], earlier, torch.ones(L + 1, L))
    assert_close(denoiser(**FITTING)(batch)[:, 0, 0].double(), torch.tensor(expected), atol=6e-3, rtol=0)


def test_the_level_is_removed_and_the_mediator_kept() -> None:
    """With a long history what is left of a journey's residual follows η, and not what the user adds to all of it."""
    residual_BL, eta_BL, history_B, level_B = simulated(20_000, 4, 400)
    batch = journeys(
        torch.zeros(20_000, 4), torch.tensor(residual_BL).float(), torch.tensor(history_B).float(), 400.0,
        torch.ones(20_000, 4),
    )  # fmt: skip
    kept_BL = denoiser(**FITTING)(batch)[..., 0].numpy()

    def corr(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a, b)[0, 1])

    assert corr(residual_BL.mean(1), level_B) > 0.7
    assert abs(corr(kept_BL.mean(1), level_B)) < 0.05
    assert corr(kept_BL.ravel(), eta_BL.ravel()) > corr(residual_BL.ravel(), eta_BL.ravel()) + 0.05


def test_a_touch_without_a_response_is_what_its_content_says() -> None:
    """And counts neither in the journey's mean nor in its length: the others' û is that of a journey without it."""
    m_BL, residual_BL = torch.tensor([[0.5, -0.2, 0.4]]), torch.tensor([[0.8, 0.0, -0.4]])
    mask_BL, history_B = torch.ones(1, 3), torch.tensor([0.6])
    batch = journeys(m_BL, residual_BL, history_B, 3.0, mask_BL)
    assert batch.evidence is not None
    batch = replace(batch, evidence=replace(batch.evidence, observed_BL=torch.tensor([[1.0, 0.0, 1.0]])))
    denoise, kept = denoiser(rho=0.5, v=0.6, tau2=0.3), [0, 2]
    without = journeys(m_BL[:, kept], residual_BL[:, kept], history_B, 3.0, mask_BL[:, kept])
    assert_close(denoise(batch)[:, kept], denoise(without))
    assert_close(denoise(batch)[0, 1, 0], m_BL[0, 1])
