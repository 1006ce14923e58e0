from __future__ import annotations

import pytest
from small_world import Prepared
from tiny_model import TINY_MODEL, TINY_TRAIN, Trained

from model.train import train


@pytest.fixture(scope="session")
def trained(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny model fitted on the small world."""
    root = tmp_path_factory.mktemp("trained")
    train(
        journeys_dir=prepared.journeys, data_dir=prepared.data, model_config=TINY_MODEL, config=TINY_TRAIN,
        checkpoints=root / "checkpoints", out=root / "bundle", baselines_out=root / "baselines",
    )  # fmt: skip
    return Trained(bundle=root / "bundle", baselines=root / "baselines")
