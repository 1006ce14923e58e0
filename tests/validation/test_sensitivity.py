"""Strengths are what they say: added to the effects, they overturn the claim, and no less does."""

from __future__ import annotations

import numpy as np
import pytest
from confounded_world import confounded_world

from validation.measured import JudgeConfig, Measured, measure
from validation.sensitivity import (
    Claim,
    Strength,
    claims,
    hidden_path,
    mediator_confounder,
    robustness_value,
    sensitivity,
)
from validation.shards import draw_replicates
from validation.uplift import Uplift


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(confounded_world(8_000, seed=61, clusters=8).data, JudgeConfig(replicates=40, half_pairs=2))


@pytest.fixture(scope="module")
def scores(measured: Measured) -> tuple[np.ndarray, np.ndarray]:
    """A good ranking and a random one."""
    assert measured.fd is not None
    rng = np.random.default_rng(0)
    return measured.fd.sample, rng.standard_normal(measured.fd.sample.shape)


def noiseless(measured: Measured) -> Uplift:
    """FD's effects as if every replicate were the sample, so that SDs are of the effects themselves."""
    assert measured.fd is not None
    rows = len(measured.replicates.weight_RS)
    return Uplift(judge="FD", u_RBK=np.repeat(measured.fd.u_RBK[:1], rows, axis=0), usable=True, note="")


def effect_sd(measured: Measured, u_BK: np.ndarray) -> float:
    w_BK, pi_B1 = measured.exposure.w_BK, measured.exposure.pi_B[:, None]
    centred_BK = u_BK - (u_BK * w_BK).sum(axis=1, keepdims=True)
    return float(np.sqrt((w_BK * pi_B1 * centred_BK**2).sum()))


def strength(measured: Measured, claim: Claim, u_BK: np.ndarray) -> Strength:
    rows = len(measured.replicates.weight_RS)
    uplift = Uplift(judge="FD", u_RBK=np.repeat(u_BK[None], rows, axis=0), usable=True, note="")
    return hidden_path(uplift, claim, measured.exposure, measured.replicates)


def test_a_path_of_that_strength_brings_the_claim_to_nothing(
    measured: Measured, scores: tuple[np.ndarray, np.ndarray]
) -> None:
    u_BK = noiseless(measured).sample
    for claim in claims(*scores, "champion", measured.exposure):
        found = strength(measured, claim, u_BK)
        assert found.estimate > 0
        assert found.aligned is not None
        assert found.aligned == pytest.approx(found.unsure)  # without noise the bound is the estimate
        psi_BK = claim.g_BK * found.aligned * effect_sd(measured, u_BK) / effect_sd(measured, claim.g_BK)
        assert strength(measured, claim, u_BK - psi_BK).estimate == pytest.approx(0, abs=1e-12)
        assert strength(measured, claim, u_BK - 0.9 * psi_BK).estimate > 0


def test_no_other_path_of_that_strength_does_more(measured: Measured, scores: tuple[np.ndarray, np.ndarray]) -> None:
    u_BK, claim = noiseless(measured).sample, claims(*scores, "champion", measured.exposure)[0]
    found = strength(measured, claim, u_BK)
    assert found.aligned is not None
    rng = np.random.default_rng(1)
    for _ in range(200):
        psi_BK = rng.standard_normal(u_BK.shape)
        psi_BK *= found.aligned * effect_sd(measured, u_BK) / effect_sd(measured, psi_BK)
        assert strength(measured, claim, u_BK - psi_BK).estimate >= -1e-12


def test_a_random_path_overturns_once_in_twenty(measured: Measured, scores: tuple[np.ndarray, np.ndarray]) -> None:
    u_BK, claim = noiseless(measured).sample, claims(*scores, "champion", measured.exposure)[0]
    found = strength(measured, claim, u_BK)
    assert found.random is not None
    rng = np.random.default_rng(2)
    sd = found.random * effect_sd(measured, u_BK)
    overturned = [
        strength(measured, claim, u_BK + sd * rng.standard_normal(u_BK.shape[1])[None]).estimate < 0
        for _ in range(2_000)
    ]
    assert np.mean(overturned) == pytest.approx(0.05, abs=0.02)


def test_noise_makes_a_claim_easier_to_unsettle(measured: Measured, scores: tuple[np.ndarray, np.ndarray]) -> None:
    assert measured.fd is not None
    claim = claims(*scores, "champion", measured.exposure)[0]
    found = hidden_path(measured.fd, claim, measured.exposure, measured.replicates)
    assert found.aligned is not None
    assert found.unsure is not None
    assert found.unsure < found.aligned


def test_what_is_not_claimed_needs_nothing(measured: Measured, scores: tuple[np.ndarray, np.ndarray]) -> None:
    good, bad = scores
    claim = claims(bad, good, "champion", measured.exposure)[0]
    found = strength(measured, claim, noiseless(measured).sample)
    assert found.estimate < 0
    assert (found.aligned, found.unsure, found.random) == (0.0, 0.0, 0.0)


def test_effects_that_are_all_noise_have_no_unit(measured: Measured, scores: tuple[np.ndarray, np.ndarray]) -> None:
    claim = claims(*scores, "champion", measured.exposure)[0]
    sample = noiseless(measured).sample
    replicates = draw_replicates(1_000, 40, half_pairs=2, seed=0)
    noise_RBK = 100 * np.random.default_rng(3).standard_normal((45, *sample.shape)) * np.abs(sample).max()
    noise_RBK[0] = 0
    uplift = Uplift(judge="FD", u_RBK=sample + noise_RBK, usable=True, note="")
    assert hidden_path(uplift, claim, measured.exposure, replicates).aligned is None


def test_robustness_values_of_the_published_example() -> None:
    """Cinelli & Hazlett's Darfur study: t = 4.18 on 783 degrees of freedom, RV 13.9%, and 7.6% at the 5% level."""
    f = 4.18 / np.sqrt(783)
    assert robustness_value(f) == pytest.approx(0.139, abs=5e-4)
    assert robustness_value(f * (1 - 1.96 / 4.18)) == pytest.approx(0.076, abs=5e-4)
    assert robustness_value(0.0) == 0


def test_the_mediator_contrast_against_a_direct_fit() -> None:
    """Slope and R² of h on g with a dummy a journey, by least squares."""
    data = confounded_world(150, seed=62, clusters=4).data
    measured = measure(data, JudgeConfig(replicates=20, half_pairs=1))
    g_BK = np.linspace(-0.5, 0.5, 4)[None] + np.zeros((measured.buckets.count, 1))
    assert measured.fd is not None
    index_T = measured.fd.index_T
    g_T = g_BK[measured.buckets.bucket_J[data.journey_T], data.column_T]
    dummies_TJ = np.eye(150)[data.journey_T]
    h_T, g_T = (v - dummies_TJ @ np.linalg.lstsq(dummies_TJ, v, rcond=None)[0] for v in (index_T, g_T))
    slope, r2 = (g_T @ h_T) / (g_T @ g_T), np.corrcoef(g_T, h_T)[0, 1] ** 2
    sign = 1 if slope > 0 else -1
    found = mediator_confounder(data, measured.buckets, index_T, Claim(text="", g_BK=sign * g_BK))
    assert found.estimate == pytest.approx(sign * slope)
    assert found.aligned == pytest.approx(robustness_value(np.sqrt(r2 / (1 - r2))))
    against = mediator_confounder(data, measured.buckets, index_T, Claim(text="", g_BK=-sign * g_BK))
    assert (against.aligned, against.unsure) == (0.0, 0.0)


def test_every_judge_and_claim_has_its_row(measured: Measured, scores: tuple[np.ndarray, np.ndarray]) -> None:
    parts = {
        "data": measured.data, "buckets": measured.buckets, "exposure": measured.exposure,
        "replicates": measured.replicates, "own_BK": scores[0], "rival_BK": scores[1], "rival": "last touch",
    }  # fmt: skip
    rows = sensitivity(judges=measured.judges, **parts)
    assert [(row.judge, row.random is None) for row in rows] == [("FD", False), ("OBS", False), ("FD", True)] * 2
    assert {row.claim for row in rows} == {"Better than last touch", "Better than a random order"}
    without = sensitivity(judges=[measured.obs.uplift], **parts)
    assert [row.judge for row in without] == ["OBS", "OBS"]
