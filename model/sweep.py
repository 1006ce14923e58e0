"""Search model and training settings with Ray Tune: `python -m model.sweep --help`.

Trials are proposed by Optuna (TPE) and stopped early by ASHA; each fits on the fit split and is scored on the selection
split by the outcome's log-loss. Trials that run side by side make the proposals depend on which ends first.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning
import yaml
from lightning.pytorch.callbacks import Callback
from tenacity import before_sleep_log, retry, stop_after_attempt, wait_fixed

from features.errors import AlmMtaError, ConfigError, TrainingFailed
from features.files import atomic_file, write_json
from features.process import end_with_parent
from features.settings import load_section
from model.data import load_journeys
from model.settings import ModelConfig, SweepConfig, TrainConfig
from model.train import MONITOR, check_splits, fit, front_door_module

logger = logging.getLogger(__name__)

NEVER = 10**9

METRIC = MONITOR
"""Selection log-loss of the outcome, what picks a training's epoch too."""


class _Report(Callback):
    """Tells Ray Tune the best selection score so far after every epoch: that epoch is what a training keeps."""

    def __init__(self) -> None:
        self.best = math.inf

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        from ray import tune

        self.best = min(self.best, float(trainer.callback_metrics[METRIC]))
        tune.report({METRIC: self.best, "epoch": trainer.current_epoch + 1})


def sweep(
    *, journeys_dir: Path, data_dir: Path, config: SweepConfig, model_config: ModelConfig, train_config: TrainConfig,
    out: Path,
) -> tuple[ModelConfig, TrainConfig]:  # fmt: skip
    """Run the trials, write `out`/trials.json, and return the best trial's settings.

    Raises TrainingFailed when no trial ends with a finite score.
    """
    import optuna
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    if config.trials < 1:
        raise ConfigError("sweep.trials = 0: say how many trials to run, for example --sweep.trials 4")
    check_splits(load_journeys(journeys_dir, data_dir))
    out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _start_ray(config)

    def trial(sample: dict[str, Any]) -> None:
        trial_model, trial_train = apply_sample(sample, model_config, train_config)
        trial_train = replace(trial_train, devices=1, patience=NEVER)  # ASHA stops trials
        table = load_journeys(journeys_dir.absolute(), data_dir.absolute())
        module = front_door_module(table, trial_model, trial_train)
        with tempfile.TemporaryDirectory() as folder:
            fit("trial", module, table, Path(folder), [_Report()])

    resources = {"cpu": config.cpus_per_trial, "gpu": config.gpus_per_trial}
    tuner = tune.Tuner(
        tune.with_resources(trial, resources),
        param_space=_space(),
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="min",
            num_samples=config.trials,
            max_concurrent_trials=config.concurrent,
            search_alg=OptunaSearch(seed=config.seed),
            scheduler=ASHAScheduler(time_attr="epoch", grace_period=2, max_t=1000),
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=config.storage or str(out.absolute() / "ray"),
            verbose=0,
            callbacks=[_trial_log()],
        ),
    )
    results = tuner.fit()
    scored = [
        r
        for r in map(results.__getitem__, range(len(results)))
        if r.metrics and math.isfinite(r.metrics.get(METRIC, math.nan))
    ]
    if not scored:
        raise TrainingFailed(
            f"sweep: none of {config.trials} trials ended with a score; first error: {results.errors[:1]}"
        )
    rows = [{"sample": r.config, "score": r.metrics[METRIC], "epochs": r.metrics["epoch"]} for r in scored if r.metrics]
    write_json(out / "trials.json", sorted(rows, key=lambda row: row["score"]))
    ray.shutdown()
    best = min(rows, key=lambda row: row["score"])
    logger.info("best trial: score %.4f with %s", best["score"], best["sample"])
    return apply_sample(best["sample"], model_config, train_config)


def _space() -> dict[str, Any]:
    from ray import tune

    return {
        "learning_rate": tune.loguniform(1e-3, 1e-2),
        "weight_decay": tune.loguniform(1e-5, 1e-2),
        "batch_size": tune.choice([256, 512, 1024]),
        "hidden": tune.choice([16, 32, 64]),
    }


def apply_sample(sample: dict[str, Any], model: ModelConfig, train: TrainConfig) -> tuple[ModelConfig, TrainConfig]:
    """Settings with one trial's values in them."""
    rest = {name: value for name, value in sample.items() if name != "hidden"}
    return replace(model, hidden=int(sample["hidden"])), replace(train, **rest)


def _trial_log() -> Any:
    from ray.tune import Callback as TuneCallback

    class TrialLog(TuneCallback):
        """A line an epoch of any trial."""

        def on_trial_result(self, **info: Any) -> None:  # type: ignore[override]
            ended = sum(t.status == "TERMINATED" for t in info["trials"])
            epoch, score = info["result"]["epoch"], info["result"][METRIC]
            logger.info("sweep: trial %s epoch %d score %.4f (%d ended)", info["trial"].trial_id, epoch, score, ended)

    return TrialLog()


@retry(
    stop=stop_after_attempt(3), wait=wait_fixed(5), before_sleep=before_sleep_log(logger, logging.WARNING), reraise=True
)
def _start_ray(config: SweepConfig) -> None:
    """A local Ray, or a connection to a cluster. A busy machine can miss Ray's start-up limit, hence the retries."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its own table of trials; ours are log lines
    import ray

    ray.shutdown()
    logger.info("starting Ray (up to a minute)" if not config.address else f"connecting to Ray at {config.address}")
    if config.address:
        ray.init(address=config.address, log_to_driver=False, logging_level=logging.WARNING)
    else:
        ray.init(
            num_cpus=max(2, os.cpu_count() or 2),
            include_dashboard=False,
            object_store_memory=200 * 2**20,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )


def best_config(text: str, model: ModelConfig, train: TrainConfig) -> str:
    """The configuration `text` with the best settings in sections model and train, as YAML."""
    values = yaml.safe_load(text) or {}
    return yaml.safe_dump(values | {"model": asdict(model), "train": asdict(train)}, sort_keys=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m model.sweep", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--journeys", type=Path, required=True, help="folder of the touch table")
    parser.add_argument("--data", type=Path, required=True, help="folder of training_table/ and items.parquet")
    parser.add_argument("--config", type=Path, required=True, help="YAML with sections sweep, model and train")
    parser.add_argument("--out", type=Path, required=True, help="receives trials.json and best.yaml")
    arguments = parser.parse_args()
    end_with_parent()
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s %(name)s] %(message)s", stream=sys.stdout)
    text = arguments.config.read_text()
    try:
        model, train = sweep(
            journeys_dir=arguments.journeys,
            data_dir=arguments.data,
            config=load_section(text, "sweep", SweepConfig),
            model_config=load_section(text, "model", ModelConfig),
            train_config=load_section(text, "train", TrainConfig),
            out=arguments.out,
        )
    except AlmMtaError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return 1
    with atomic_file(arguments.out / "best.yaml") as temporary:
        temporary.write_text(best_config(text, model, train))
    return 0


if __name__ == "__main__":
    sys.exit(main())
