"""Searches model and training settings on the selection split."""

from kfp import dsl

from components.base import component


@component
def sweep(
    config: str,
    journeys: dsl.Input[dsl.Dataset],
    data: dsl.Input[dsl.Dataset],
    trials: dsl.Output[dsl.Artifact],
) -> str:
    """Run the trials of section `sweep` and return the config with the best one's settings in it.

    Args:
        config: YAML of all sections; reads `sweep`, `model` and `train`.
        journeys: Folder written by build_journeys.
        data: Folder written by retrieve_features.
        trials: Folder of all trials and the best config.
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from components.runtime import run_module, step

    with step(), TemporaryDirectory() as folder:
        settings = Path(folder) / "config.yaml"
        settings.write_text(config)
        out = Path(trials.path)
        places = {
            "--journeys": journeys.path,
            "--data": data.path,
            "--config": str(settings),
            "--out": str(out),
        }
        run_module("model.sweep", *(part for option in places.items() for part in option))
        return (out / "best.yaml").read_text()
