"""The references that closed-form credits are judged by are right themselves, and so is the arithmetic on them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from benchmarks import shapley_speed as speed
from model.front_door import Game
from model.link import SaturatingLink


@pytest.fixture(autouse=True)
def few_journeys(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(speed, "JOURNEYS", 16)
    monkeypatch.setattr(speed, "BANK", 8)
    with torch.no_grad():
        yield


class CubeGame(Game):
    def value(self, z_BZ: Tensor) -> Tensor:
        return z_BZ**3


def cube_game(journeys: int) -> CubeGame:
    one = torch.ones(journeys, 1)
    return CubeGame(c_BJ=one, residual_J=one[0], weight_BJ=one, link=SaturatingLink())


def test_enumeration_by_hand() -> None:
    """v = z³, e = (1, 2, −1): touches alone are worth 1, 8, −1, pairs 27, 0, 1, all three 8.

    φ_1 = (2·1 + (27 − 8) + (0 + 1) + 2·(8 − 1)) / 6 = 6, φ_2 = (2·8 + 26 + 2 + 2·8) / 6 = 10, φ_3 = 8 − 16 = −8.
    """
    phi_BL = speed.enumerate_orders(cube_game(1), torch.tensor([[1.0, 2.0, -1.0]]))
    assert_close(phi_BL, torch.tensor([[6.0, 10.0, -8.0]], dtype=torch.float64))


def test_sampled_orders_agree_with_enumeration_within_their_standard_error() -> None:
    case = speed.drawn_case("heavy tails", 6, seed=1)
    phi_BL, stderr_BL = speed.sample_orders(case.game, case.e_BL, 1_024, np.random.default_rng(0))
    z_BL = (phi_BL - speed.enumerate_orders(case.game, case.e_BL)) / stderr_BL
    assert 0.8 < float((z_BL**2).mean().sqrt()) < 1.25


def test_captums_two_ways_to_batch_are_one_estimate() -> None:
    pytest.importorskip("captum", reason="captum comes with the extra 'bench'")
    case = speed.drawn_case("moderate", 5, seed=1)
    one, many = (speed.captum_shapley(case.game, case.e_BL, orders=400, at_once=n, seed=3) for n in (1, 5))
    assert_close(one, many)
    assert speed.error(one, speed.enumerate_orders(case.game, case.e_BL)) < 0.05


def test_measured_ratios_and_their_table(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("captum", reason="captum comes with the extra 'bench'")
    monkeypatch.setattr(speed, "PATIENCE", 5)
    measured = [speed.measure(speed.drawn_case("moderate", 6, seed)) for seed in (1, 2)]
    for m in measured:
        last = m["captum"][-1]
        assert m["error_p95"] < 1e-4 < last["error_p95"]
        assert m["times_faster_measured"] == pytest.approx(last["seconds"] / m["seconds"])
        needed = last["orders"] * (last["error_p95"] / m["error_p95"]) ** 2
        assert m["times_faster_at_equal_error"] == pytest.approx(needed / last["orders"] * m["times_faster_measured"])
    (row,) = speed.summarise(measured)
    assert row["error_p95"]["max"] == max(m["error_p95"] for m in measured)
    made = {"command": "c", "machine": {"cores": 2, "architecture": "a"}, "versions": {"torch": "2"}}
    result = made | {"summary": [row]}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert "| moderate | 6 | " in speed.to_markdown(result)
