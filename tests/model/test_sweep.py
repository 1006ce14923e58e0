from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from small_world import Prepared
from tiny_model import TINY_MODEL, TINY_TRAIN

from features.errors import ConfigError
from model.settings import SweepConfig
from model.sweep import apply_sample, best_config, sweep


def test_a_sweep_without_trials_is_refused_before_ray_starts(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--sweep\.trials 4"):
        sweep(
            journeys_dir=prepared.journeys, data_dir=prepared.data, config=SweepConfig(),
            model_config=TINY_MODEL, train_config=TINY_TRAIN, out=tmp_path,
        )  # fmt: skip


def test_the_best_sample_reaches_the_config_and_leaves_the_rest() -> None:
    sample = {"hidden": 16, "learning_rate": 0.002, "weight_decay": 0.01, "batch_size": 256}
    model, train = apply_sample(sample, TINY_MODEL, TINY_TRAIN)
    assert model == replace(TINY_MODEL, hidden=16)
    assert train == replace(TINY_TRAIN, learning_rate=0.002, weight_decay=0.01, batch_size=256)
    text = yaml.safe_load(best_config("judge: {seed: 3}\ntrain: {seed: 9}", model, train))
    assert text["judge"] == {"seed": 3}
    assert text["train"]["batch_size"] == 256


@pytest.mark.slow
def test_trials_run_on_a_real_ray(prepared: Prepared, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "sweep: {trials: 2}\nmodel: {bank: 32}\ntrain: {max_epochs: 2, min_steps: 10, accelerator: cpu}\n"
        "judge: {seed: 3}\n"
    )
    places = {"--journeys": prepared.journeys, "--data": prepared.data, "--config": config, "--out": tmp_path / "out"}
    arguments = [str(part) for option in places.items() for part in option]
    done = subprocess.run(
        [sys.executable, "-m", "model.sweep", *arguments], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trials = json.loads((tmp_path / "out" / "trials.json").read_text())
    best = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())
    assert len(trials) == 2
    assert trials[0]["score"] <= trials[1]["score"]
    assert best["model"]["hidden"] == trials[0]["sample"]["hidden"]
    assert best["train"]["learning_rate"] == trials[0]["sample"]["learning_rate"]
    assert best["judge"] == {"seed": 3}
