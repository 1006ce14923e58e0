from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from safetensors.numpy import load_file
from small_world import Prepared
from tiny_model import TINY_MODEL, TINY_TRAIN, Trained

from features.errors import BundleError, TrainingFailed
from features.files import read_json
from features.journey_files import TRAINING_TABLE, part_file
from features.journeys import JourneyConfig, build_journeys
from features.reader import open_logs
from features.retrieval import retrieve_features
from model.attribution import attribute
from model.batch import JourneyBatch
from model.bundle import bundle_sha256, load_bundle
from model.data import load_journeys
from model.module import plan_schedule
from model.score_graph import INPUTS, OUTPUTS
from model.settings import ModelConfig, TrainConfig
from model.train import fit, front_door_module, train
from validation.worlds import WORLDS, simulate


def run_train(prepared: Prepared, root: Path, **changes: object) -> str:
    train(
        journeys_dir=prepared.journeys, data_dir=prepared.data, model_config=TINY_MODEL,
        config=replace(TINY_TRAIN, naive_baseline=False, **changes),  # type: ignore[arg-type]
        checkpoints=root / "checkpoints", out=root / "bundle",
    )  # fmt: skip
    return bundle_sha256(root / "bundle")


def test_schedule_reaches_the_least_number_of_steps() -> None:
    few = plan_schedule(TrainConfig(max_epochs=5, min_steps=400, batch_size=512), 1_000)
    assert few.steps >= 400
    assert few.batch_size == 64
    many = plan_schedule(TrainConfig(max_epochs=5, min_steps=400, batch_size=512), 100_000)
    assert (many.batch_size, many.epochs) == (512, 5)


def test_schedule_ends_by_the_most_steps_and_passes_over_everything_once() -> None:
    config = TrainConfig(max_epochs=6, max_steps=1_000, batch_size=512)
    assert plan_schedule(config, 512 * 400).epochs == 2
    assert plan_schedule(config, 512 * 5_000).epochs == 1


def test_training_lowers_the_selection_loss(trained: Trained) -> None:
    epochs = read_json(trained.bundle / "history.json")["epochs"]
    assert epochs[-1]["selection_outcome"] < epochs[0]["selection_outcome"]
    assert [row["epoch"] for row in epochs] == list(range(1, len(epochs) + 1))
    assert len([row for row in epochs if "selection_mediator" not in row]) > 1, "the outcome's own epochs follow"


def test_same_data_and_settings_give_the_same_bytes(prepared: Prepared, tmp_path: Path) -> None:
    assert run_train(prepared, tmp_path / "a") == run_train(prepared, tmp_path / "b")
    assert run_train(prepared, tmp_path / "c", seed=8) != bundle_sha256(tmp_path / "a" / "bundle")


@pytest.mark.slow
def test_a_training_killed_at_random_moments_ends_in_the_same_bytes(prepared: Prepared, tmp_path: Path) -> None:
    """kill -9 within an epoch of the joint fit, of the outcome's and of the baseline's, each at a step drawn at random.

    The fourth try goes on and leaves the bytes of an uninterrupted training, baseline included.
    """
    config = tmp_path / "config.yaml"
    config.write_text(
        "model: {hidden: 8, bank: 32}\n"
        "train: {max_epochs: 8, outcome_epochs: 8, min_steps: 20, batch_size: 64, accelerator: cpu, patience: 99, "
        "checkpoint_minutes: 1.0e-9}\n"
    )

    def start(root: Path) -> subprocess.Popen[str]:
        places = {
            "--journeys": prepared.journeys, "--data": prepared.data, "--config": config,
            "--checkpoints": root / "checkpoints", "--out": root / "bundle", "--baselines-out": root / "naive",
        }  # fmt: skip
        arguments = [str(part) for option in places.items() for part in option]
        return subprocess.Popen(
            [sys.executable, "-m", "model.train", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def last_step(stage: str, root: Path) -> int:
        found = list(root.glob(f"checkpoints/*/{stage}/last.ckpt"))
        return int(torch.load(found[0], weights_only=True)["global_step"]) if found else 0

    def kill_within(stage: str, step: int, root: Path) -> str:
        killed, deadline = start(root), time.monotonic() + 200
        while last_step(stage, root) < step and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(killed.pid, signal.SIGKILL)
        said, _ = killed.communicate()
        assert killed.returncode == -signal.SIGKILL
        assert not list(root.glob(f"checkpoints/*/{stage}/done.json"))
        return said

    per_epoch = read_json(prepared.journeys / "manifest.json")["splits"]["fit"] // 64
    rng, stages = np.random.default_rng(11), ("front_door", "outcome", "naive")
    kept, said = [], []
    for stage in stages:
        said.append(kill_within(stage, int(rng.integers(1, 4 * per_epoch)), tmp_path / "killed"))
        kept.append(last_step(stage, tmp_path / "killed"))
    last, whole = start(tmp_path / "killed"), start(tmp_path / "whole")
    said.append(last.communicate()[0])
    whole.communicate()

    assert any(step % per_epoch for step in kept), "none was killed within an epoch"
    for name, step, then in zip(("front door", "outcome", "naive"), kept, said[1:], strict=True):
        assert f"{name}: resumed at step {step}, epoch {step // per_epoch + 1}" in then
    assert "front door: epoch" not in said[-1], "what was done is not repeated"
    assert bundle_sha256(tmp_path / "killed" / "bundle") == bundle_sha256(tmp_path / "whole" / "bundle")
    naive = [(tmp_path / root / "naive" / "naive.safetensors").read_bytes() for root in ("killed", "whole")]
    assert naive[0] == naive[1]


def test_two_processes_train_with_ddp(prepared: Prepared, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "model: {hidden: 8, bank: 32}\n"
        "train: {max_epochs: 1, min_steps: 5, batch_size: 128, accelerator: cpu, devices: 2}\n"
    )
    places = {
        "--journeys": prepared.journeys, "--data": prepared.data, "--config": config,
        "--checkpoints": tmp_path / "checkpoints", "--out": tmp_path / "bundle", "--baselines-out": tmp_path / "naive",
    }  # fmt: skip
    arguments = [str(part) for option in places.items() for part in option]
    subprocess.run([sys.executable, "-m", "model.train", *arguments], check=True, capture_output=True, timeout=300)
    assert load_bundle(tmp_path / "bundle").sha256
    assert (tmp_path / "naive" / "naive.safetensors").exists()
    assert list(tmp_path.glob("checkpoints/*/feed/touch_ts_N.npy")), "both read the touches of one memory map"


def test_a_finished_training_is_not_repeated(prepared: Prepared, tmp_path: Path) -> None:
    """Again on the same checkpoints, as a pipeline step that is retried: the same bytes, however much it keeps."""
    assert len({run_train(prepared, tmp_path, checkpoint_minutes=minutes) for minutes in (5.0, 5.0, 0.0)}) == 1
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_checkpoints_are_named_by_all_code_that_trains(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A baseline that is altered must not be read back as it was."""
    hashed: list[str] = []

    def hashing(path: Path) -> str:
        hashed.append(path.name)
        return "0"

    def refuse(_: object) -> None:
        raise TrainingFailed("named before anything is fitted")

    monkeypatch.setattr("model.train.sha256_file", hashing)
    monkeypatch.setattr("model.train.check_splits", refuse)
    with pytest.raises(TrainingFailed, match="named before"):
        run_train(prepared, tmp_path)
    assert {"train.py", "module.py", "feed.py", "naive.py", "part-00000.parquet", "items.parquet"} <= set(hashed)


def test_epochs_differ_in_a_real_fit(prepared: Prepared, tmp_path: Path) -> None:
    """Lightning must find set_epoch: the first batches of two epochs differ."""
    seen: list[list[int]] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: JourneyBatch, i: int) -> None:  # noqa: ARG002
            if i == 0:
                seen.append(batch.label_B.tolist())

    table = load_journeys(prepared.journeys, prepared.data)
    module = front_door_module(table, TINY_MODEL, TINY_TRAIN)
    fit("watched", module, table, tmp_path, [Watch()])
    assert len(seen) > 1
    assert seen[0] != seen[1]


@pytest.mark.slow
def test_credits_find_the_truth(tmp_path: Path) -> None:
    """The default model on 2,000 users: the front door finds the known effects, the naive baseline does not."""
    simulate(WORLDS["logit"], 2_000, 5, tmp_path / "logs")
    logs = open_logs(tmp_path / "logs")
    build_journeys(logs, JourneyConfig(), tmp_path / "journeys")
    retrieve_features(logs, tmp_path / "journeys", tmp_path / "store", tmp_path / "data")
    places = {"journeys_dir": tmp_path / "journeys", "data_dir": tmp_path / "data"}
    train(
        **places, model_config=ModelConfig(), config=TrainConfig(accelerator="cpu"),
        checkpoints=tmp_path / "checkpoints", out=tmp_path / "bundle", baselines_out=tmp_path / "naive",
    )  # fmt: skip
    attribute(model_dir=tmp_path / "bundle", **places, out=tmp_path / "credits", baselines_dir=tmp_path / "naive")
    keys = ["user_id", "t_obs", "item_id", "ts"]
    truth, front_door, naive = (
        pq.read_table(tmp_path / place).to_pandas().set_index(keys)["delta"]
        for place in ("logs/truth/touchpoints", "credits/attributions", "credits/baselines/naive")
    )
    judged = naive.index
    assert np.corrcoef(front_door.loc[judged], truth.loc[judged])[0, 1] > 0.8
    assert np.corrcoef(naive, truth.loc[judged])[0, 1] < 0.3


def test_one_outcome_only_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    import pyarrow as pa

    table = pq.read_table(prepared.data / TRAINING_TABLE)
    position = table.column_names.index("label")
    (tmp_path / "data" / TRAINING_TABLE).mkdir(parents=True)
    zeros = pa.array(np.zeros(table.num_rows, np.int8))
    pq.write_table(table.set_column(position, "label", zeros), tmp_path / "data" / part_file(TRAINING_TABLE, 0))
    for name in ("items.parquet", "schema.json"):
        (tmp_path / "data" / name).write_bytes((prepared.data / name).read_bytes())
    with pytest.raises(TrainingFailed, match=r"split 'fit' has [\d,]+ journeys, 0 with an upload"):
        run_train(replace(prepared, data=tmp_path / "data"), tmp_path)


def test_an_altered_bundle_is_refused(trained: Trained, tmp_path: Path) -> None:
    for path in trained.bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BundleError, match=r"weights\.safetensors: missing or altered"):
        load_bundle(tmp_path)


def test_the_onnx_graph_scores_the_golden_rows(trained: Trained) -> None:
    golden = load_file(trained.bundle / "golden.safetensors")
    session = onnxruntime.InferenceSession(trained.bundle / "score.onnx")
    got = session.run(list(OUTPUTS), {name: golden[name] for name in INPUTS})
    for name, value in zip(OUTPUTS, got, strict=True):
        np.testing.assert_allclose(value, golden[name], atol=1e-5)
    one_touch = {name: golden[name][:2, :1] if name != "profile_BP" else golden[name][:2] for name in INPUTS}
    assert session.run(["delta_BL"], one_touch)[0].shape == (2, 1)
