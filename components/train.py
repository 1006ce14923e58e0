"""Fits the front-door model, in a process of its own."""

from kfp import dsl

from components.base import component


@component
def train(
    config: str,
    checkpoint_dir: str,
    journeys: dsl.Input[dsl.Dataset],
    data: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    baselines: dsl.Output[dsl.Artifact],
    curves: dsl.Output[dsl.Metrics],
) -> None:
    """Fit on the fit split, stop on the selection split, write the bundle.

    Args:
        config: YAML of all sections; reads `model` and `train`.
        checkpoint_dir: Kept between attempts, so that a killed training goes on where it was.
        journeys: Folder written by build_journeys.
        data: Folder written by retrieve_features.
        model: The bundle; its metadata hold its SHA-256.
        baselines: Weights of the naive baseline.
        curves: Losses of the last epoch.
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from components.outputs import log_metrics
    from components.runtime import run_module, step
    from features.files import read_json, sha256_file

    with step(), TemporaryDirectory() as folder:
        settings = Path(folder) / "config.yaml"
        settings.write_text(config)
        bundle = Path(model.path)
        Path(baselines.path).mkdir(parents=True, exist_ok=True)
        places = {
            "--journeys": journeys.path,
            "--data": data.path,
            "--config": str(settings),
            "--checkpoints": checkpoint_dir,
            "--out": str(bundle),
            "--baselines-out": baselines.path,
        }
        run_module("model.train", *(part for option in places.items() for part in option))
        model.metadata["sha256"] = sha256_file(bundle / "manifest.json")
        last_epoch = (read_json(bundle / "history.json")["epochs"] or [{}])[-1]
        log_metrics(curves, {name: value for name, value in last_epoch.items() if isinstance(value, (int, float))})
