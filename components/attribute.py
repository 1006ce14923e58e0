"""Credits of every touchpoint, by candidate and champion."""

from kfp import dsl

from components.base import component


@component
def attribute(
    config: str,
    journeys: dsl.Input[dsl.Dataset],
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    baselines: dsl.Input[dsl.Artifact],
    credits: dsl.Output[dsl.Dataset],
) -> None:
    """Write the candidate's credits for all journeys, and for the judge's users those of champion and baselines.

    Args:
        config: YAML of all sections; reads `registry`.
        journeys: Folder written by build_journeys.
        data: Folder written by retrieve_features.
        model: The candidate's bundle.
        baselines: Weights of the naive baseline.
        credits: Folder of credits and diagnostics; its metadata name the champion and whether it is the candidate.
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from components.runtime import step
    from features.settings import load_section
    from model import attribution, registry
    from model.settings import RegistryConfig

    with step(), TemporaryDirectory() as folder:
        settings = load_section(config, "registry", RegistryConfig)
        champion = registry.champion(settings, Path(folder) / "champion")
        unchanged = champion is not None and champion.sha256 == model.metadata["sha256"]
        attribution.attribute(
            model_dir=Path(model.path),
            journeys_dir=Path(journeys.path),
            data_dir=Path(data.path),
            out=Path(credits.path),
            champion_dir=champion.bundle if champion is not None and not unchanged else None,
            baselines_dir=Path(baselines.path),
        )
        credits.metadata["champion"] = champion.version if champion is not None else ""
        credits.metadata["unchanged"] = unchanged
