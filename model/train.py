"""Fit the front-door model on the fit split and write its bundle: `python -m model.train --help`.

A program of its own, since a trainer of several processes re-executes the program it runs in. It keeps checkpoints
under `--checkpoints`, in a folder named by data and settings, and when it was killed goes on from the last one at the
next step, to the same weights.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from safetensors.torch import save_file
from torch import Tensor

from features.errors import AlmMtaError, TrainingFailed
from features.files import atomic_dir, read_json, sha256_file, write_json
from features.journey_files import TRAINING_TABLE, part_files
from features.parts import fingerprint_of
from features.process import end_with_parent
from features.settings import load_section
from model.bank import build_bank
from model.baselines.naive import NaiveModel
from model.bundle import save_bundle
from model.calibration import Calibration, calibrate
from model.callbacks import (
    Continuation,
    EpochMeans,
    History,
    MidEpochCheckpoint,
    NoProfiler,
    Progress,
    WholeCheckpoints,
)
from model.data import JourneyTable, load_journeys
from model.evidence import fit_denoiser, with_evidence
from model.feed import JourneyData
from model.front_door import CATALOGUE_ITEMS, Bank, FrontDoorModel
from model.leakage import leak_excess
from model.module import FrontDoorModule, NaiveModule, OutcomeModule, plan_training
from model.settings import ModelConfig, TrainConfig
from model.snapshot import take_snapshot

logger = logging.getLogger(__name__)

MONITOR = "selection_outcome"
"""Picks the epoch: log-loss of the outcome. Not the mediator's error, whose unit, var(u), moves with the index."""
KEEPING = ("checkpoint_minutes",)
"""Settings that change what is kept of a training and nothing that it computes."""


def train(
    *,
    journeys_dir: Path,
    data_dir: Path,
    model_config: ModelConfig,
    config: TrainConfig,
    checkpoints: Path,
    out: Path,
    baselines_out: Path | None = None,
) -> float:
    """Fit, write the bundle to `out` (and the naive baseline to `baselines_out`); returns the selection outcome loss.

    Raises TrainingFailed where a split is empty or has one class only.
    """
    checkpoints = checkpoints / _fingerprint(journeys_dir, data_dir, model_config, config)
    shared = checkpoints / "feed" if config.devices > 1 else None  # one copy in memory for all processes
    table = load_journeys(journeys_dir, data_dir, cache=shared)
    check_splits(table)
    fitted = fit_front_door(table, model_config, config, checkpoints)
    lightning.seed_everything(config.seed, verbose=False)  # a resumed fit drew less before this
    naive = NaiveModel(model_config, table.sizes)
    fits_naive = config.naive_baseline or not table.sizes.responses  # without responses it is all there is
    if fits_naive:
        schedule = plan_training(config, table.label_J[table.split("fit")])
        fit("naive", NaiveModule(naive, config, schedule), table, checkpoints / "naive")
    loss = fitted.loss
    if _is_main_process():
        digest = save_bundle(
            out, model=fitted.model, bank=fitted.bank, schema=table.schema, catalogue=table.catalogue,
            history=fitted.history, calibration=asdict(fitted.calibration), snapshot=take_snapshot(table),
        )  # fmt: skip
        logger.info("bundle %s, selection outcome loss %.4f", digest[:12], loss)
        if fits_naive and baselines_out is not None:
            with atomic_dir(baselines_out) as folder:
                save_file(naive.cpu().state_dict(), folder / "naive.safetensors")
    return loss


@dataclass(frozen=True, kw_only=True)
class FittedFrontDoor:
    """A model ready to score."""

    model: FrontDoorModel
    bank: Bank
    table: JourneyTable
    """The journeys with the model's evidence."""
    calibration: Calibration
    history: list[dict[str, float]]
    loss: float
    """Outcome loss on the selection split, of the joint fit."""


def fit_front_door(
    table: JourneyTable, model_config: ModelConfig, config: TrainConfig, checkpoints: Path,
    callbacks: Sequence[Callback] = (),
) -> FittedFrontDoor:  # fmt: skip
    """Index and prior jointly with the outcome; the outcome again on the denoised mediator; the scale; the bank."""
    module = front_door_module(table, model_config, config)
    history, loss = fit("front door", module, table, checkpoints / "front_door", callbacks)
    model = module.model.cpu().eval()
    noise = None
    if table.sizes.responses and model_config.denoise:
        table, noise = fit_denoiser(model, table)
        shorter = replace(config, max_epochs=config.outcome_epochs)
        schedule = plan_training(shorter, table.label_J[table.split("fit")])
        lightning.seed_everything(config.seed, verbose=False)  # a resumed fit drew less before this
        outcome_history, _ = fit(
            "outcome", OutcomeModule(model.train(), config, schedule), table, checkpoints / "outcome"
        )
        history = history + [row | {"epoch": row["epoch"] + len(history)} for row in outcome_history]
    else:
        table = with_evidence(model, table)
    model = model.cpu().eval()
    calibration = calibrate(model, table, config.seed, noise)
    return FittedFrontDoor(
        model=model, bank=build_bank(model, table, config.seed), table=table, calibration=calibration,
        history=history, loss=loss,
    )  # fmt: skip


def _is_main_process() -> bool:
    """Whether this process writes: rank 0 of a launcher, or the only one."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def front_door_module(table: JourneyTable, model_config: ModelConfig, config: TrainConfig) -> FrontDoorModule:
    """A fresh model for these journeys, seeded, with what the data fixes set, and its training plan."""
    torch.use_deterministic_algorithms(True)
    lightning.seed_everything(config.seed, verbose=False)
    sizes = replace(table.sizes, ignored=_leaky_responses(table, config))
    model = _initialise(FrontDoorModel(model_config, sizes), table, config.seed)
    return FrontDoorModule(model, config, plan_training(config, table.label_J[table.split("fit")]))


def _leaky_responses(table: JourneyTable, config: TrainConfig) -> tuple[str, ...]:
    """Responses that say more of the upload than a cause could."""
    if not config.leak_threshold:
        return ()
    excess = leak_excess(table, config.trusted_response)
    leaky = tuple(name for name, share in excess.items() if share > config.leak_threshold)
    for name in leaky:
        logger.warning(
            "response '%s' explains %.0f%% of what '%s' leaves open about uploads: a consequence of the upload, "
            "not a cause; it is left out (train.leak_threshold)", name, 100 * excess[name], config.trusted_response,
        )  # fmt: skip
    return leaky


def fit(
    name: str,
    module: FrontDoorModule | OutcomeModule | NaiveModule,
    table: JourneyTable,
    checkpoints: Path,
    callbacks: Sequence[Callback] = (),
) -> tuple[list[dict[str, float]], float]:
    """Train to the best selection outcome loss and leave those weights in the module. Returns curves and that loss.

    Goes on from `checkpoints` if an earlier try left any there; a finished fit is read back, not repeated.
    """
    done = checkpoints / "done.json"
    if not done.exists():
        _fit(name, module, table, checkpoints, callbacks)
    state = torch.load(checkpoints / "best.ckpt", weights_only=True, map_location="cpu")["state_dict"]
    module.load_state_dict(state)
    finished = read_json(done)
    return finished["epochs"], finished["loss"]


def _fit(
    name: str,
    module: FrontDoorModule | OutcomeModule | NaiveModule,
    table: JourneyTable,
    checkpoints: Path,
    callbacks: Sequence[Callback],
) -> None:
    config, schedule, history = module.config, module.schedule, History()
    best = ModelCheckpoint(checkpoints, monitor=MONITOR, filename="best", enable_version_counter=False)
    last = ModelCheckpoint(
        checkpoints, filename="last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    within = [MidEpochCheckpoint(checkpoints, config.checkpoint_minutes)] if config.checkpoint_minutes else []
    trainer = lightning.Trainer(
        max_epochs=schedule.epochs,
        min_steps=config.min_steps,
        accelerator=config.accelerator,
        devices=config.devices,
        strategy="ddp" if config.devices > 1 else "auto",
        gradient_clip_val=1.0,
        callbacks=[
            EpochMeans(), Progress(name), history, Continuation(), EarlyStopping(MONITOR, patience=config.patience),
            best, last, *within, *callbacks,
        ],
        plugins=[WholeCheckpoints()],
        profiler=NoProfiler(),
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic=True,
    )  # fmt: skip
    data = JourneyData(
        table, batch_size=schedule.batch_size, seed=config.seed, negatives_per_positive=config.negatives_per_positive
    )
    resume = checkpoints / "last.ckpt"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # so that it may go on
        trainer.fit(module, datamodule=data, ckpt_path=resume if resume.exists() else None, weights_only=True)
    if best.best_model_score is None or not bool(torch.isfinite(best.best_model_score)):
        raise TrainingFailed(f"{name}: the selection loss never became finite; lower train.learning_rate")
    if trainer.is_global_zero:
        write_json(checkpoints / "done.json", {"epochs": history.epochs, "loss": float(best.best_model_score)})
    trainer.strategy.barrier()


def _initialise(model: FrontDoorModel, table: JourneyTable, seed: int) -> FrontDoorModel:
    """Set what the fit split fixes: control scales and the reference catalogue, items drawn by their exposure."""
    fit_J = table.split("fit")
    control_JC: Tensor = torch.log1p(table.control_JC[fit_J].clamp_min(0))
    model.confounder.get_buffer("control_mean_C").copy_(control_JC.mean(0))
    model.confounder.get_buffer("control_sd_C").copy_(control_JC.std(0, correction=0).clamp_min(1e-3))
    generator = torch.Generator().manual_seed(seed)
    drawn_J = fit_J[torch.randint(0, len(fit_J), (CATALOGUE_ITEMS,), generator=generator)]
    drawn_I = table.last_touch(drawn_J)
    model.index.fill_missing_with(table.response_NR[table.last_touch(fit_J)])
    model.prior.get_buffer("catalogue_cluster_I").copy_(table.touch_cluster_N[drawn_I])
    model.prior.get_buffer("catalogue_content_ID").copy_(table.content_ID[table.touch_item_N[drawn_I]])
    return model


def check_splits(table: JourneyTable) -> None:
    """Raise TrainingFailed unless both outcomes are there to fit and to select on."""
    for split in ("fit", "selection"):
        label_J = table.label_J[table.split(split)].numpy()
        if len(np.unique(label_J)) < 2:
            raise TrainingFailed(
                f"split '{split}' has {len(label_J):,} journeys, {int(label_J.sum()):,} with an upload: "
                "both outcomes are needed; bring more logs"
            )


def _fingerprint(journeys_dir: Path, data_dir: Path, model_config: ModelConfig, config: TrainConfig) -> str:
    """Names a checkpoint folder by what it was trained on and how."""
    here = Path(__file__).parent
    parts: dict[str, Any] = {
        "touches": [sha256_file(part) for part in part_files(journeys_dir, "touches")],
        "table": [sha256_file(part) for part in part_files(data_dir, TRAINING_TABLE)],
        "items": sha256_file(data_dir / "items.parquet"),
        "schema": sha256_file(data_dir / "schema.json"),
        "model": asdict(model_config),
        "train": {name: value for name, value in asdict(config).items() if name not in KEEPING},
        "code": [sha256_file(path) for pattern in ("*.py", "baselines/*.py") for path in sorted(here.glob(pattern))],
    }
    return fingerprint_of(parts, libraries=(torch,))[:16]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m model.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--journeys", type=Path, required=True, help="folder of the touch table")
    parser.add_argument("--data", type=Path, required=True, help="folder of training_table/ and items.parquet")
    parser.add_argument("--config", type=Path, required=True, help="YAML with sections model and train")
    parser.add_argument(
        "--checkpoints", type=Path, required=True, help="kept between tries, so that a killed fit resumes"
    )
    parser.add_argument("--out", type=Path, required=True, help="the model bundle")
    parser.add_argument("--baselines-out", type=Path, help="weights of the naive baseline")
    arguments = parser.parse_args()
    end_with_parent()
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s %(name)s] %(message)s", stream=sys.stdout)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    text = arguments.config.read_text()
    try:
        train(
            journeys_dir=arguments.journeys,
            data_dir=arguments.data,
            model_config=load_section(text, "model", ModelConfig),
            config=load_section(text, "train", TrainConfig),
            checkpoints=arguments.checkpoints,
            out=arguments.out,
            baselines_out=arguments.baselines_out,
        )
    except AlmMtaError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
