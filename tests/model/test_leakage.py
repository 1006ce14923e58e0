from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_world import Prepared

from features.journeys import JourneyConfig, build_journeys
from features.reader import open_logs
from features.retrieval import retrieve_features
from model.data import JourneyTable, load_journeys
from model.leakage import leak_excess
from model.logistic import fit_logistic, log_loss
from model.settings import ModelConfig, TrainConfig
from model.train import front_door_module
from validation.worlds import WORLDS, simulate


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> JourneyTable:
    root: Path = tmp_path_factory.mktemp("leaky")
    simulate(WORLDS["leaky-response"], 600, 3, root / "logs")
    logs = open_logs(root / "logs")
    build_journeys(logs, JourneyConfig(), root / "journeys")
    retrieve_features(logs, root / "journeys", root / "store", root / "data")
    return load_journeys(root / "journeys", root / "data")


def test_only_the_consequence_of_the_upload_exceeds_the_threshold(leaky: JourneyTable) -> None:
    excess = leak_excess(leaky, "watch_ratio")
    assert excess["template_tapped"] > 0.3
    assert excess["liked"] < 0.05


def test_honest_responses_stay_far_below_it(prepared: Prepared) -> None:
    table = load_journeys(prepared.journeys, prepared.data)
    assert max(leak_excess(table, "watch_ratio").values()) < 0.05


def test_the_index_does_not_read_a_leak_unless_told_to(leaky: JourneyTable, caplog: pytest.LogCaptureFixture) -> None:
    guarded = front_door_module(leaky, ModelConfig(hidden=8), TrainConfig()).model
    assert guarded.sizes.ignored == ("template_tapped",)
    assert "template_tapped" in caplog.text
    position = leaky.schema["responses"].index("template_tapped")
    assert position not in guarded.index.flags
    unguarded = front_door_module(leaky, ModelConfig(hidden=8), TrainConfig(leak_threshold=0.0)).model
    assert position in unguarded.index.flags


def test_without_a_trusted_response_nothing_is_screened(leaky: JourneyTable) -> None:
    assert leak_excess(leaky, "saved") == {}


def test_logistic_regression_recovers_its_coefficients() -> None:
    rng = np.random.default_rng(0)
    x_JP = rng.standard_normal((40_000, 2))
    logit_J = x_JP @ [1.0, -0.5] - 1.0
    y_J = (rng.random(40_000) < 1 / (1 + np.exp(-logit_J))).astype(float)
    weight, bias = fit_logistic(x_JP, y_J)
    assert weight == pytest.approx([1.0, -0.5], abs=0.05)
    assert bias == pytest.approx(-1.0, abs=0.05)
    assert log_loss(x_JP @ weight + bias, y_J) < log_loss(np.zeros(40_000), y_J) == pytest.approx(np.log(2))
