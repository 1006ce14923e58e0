from __future__ import annotations

import pytest

from features.errors import ConfigError
from model.settings import ModelConfig, RegistryConfig, SweepConfig, TrainConfig


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"members": 0}, "members = 0"),
        ({"mediator_dims": 0}, "mediator_dims = 0"),
        ({"bank_matches": -1}, "bank_matches = -1"),
        ({"attention_heads": 3}, r"attention_heads = 3: must be 0 or divide model\.hidden = 32"),
        ({"attention_heads": -1}, "attention_heads = -1"),
        ({"hidden": 0}, "hidden = 0"),
        ({"bank": 31}, "bank = 31.*at least 32"),
        ({"bank_bandwidth": 0.0}, r"bank_bandwidth = 0\.0"),
    ],
)
def test_model_settings_that_mean_nothing_are_refused(changes: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ModelConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "max_epochs",
        "min_steps",
        "max_steps",
        "batch_size",
        "learning_rate",
        "patience",
        "devices",
        "prior_rate",
        "link_rate",
        "outcome_epochs",
    ],
)
@pytest.mark.parametrize("value", [0, -1])
def test_training_settings_that_must_be_positive(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"train\.{name} = {value}: must be positive"):
        TrainConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["weight_decay", "mediator_weight", "adversary_weight", "leak_threshold", "checkpoint_minutes"]
)
def test_training_settings_that_may_be_zero_and_no_less(name: str) -> None:
    assert getattr(TrainConfig(**{name: 0.0}), name) == 0  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"train\.{name} = -0\.1: must not be negative"):
        TrainConfig(**{name: -0.1})  # type: ignore[arg-type]


def test_sweeps_and_registries_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="trials = -1"):
        SweepConfig(trials=-1)
    with pytest.raises(ConfigError, match="model_name"):
        RegistryConfig(model_name="")
