"""Great Expectations on the training table."""

from kfp import dsl

from components.base import component


@component
def validate_training_table(
    config: str,
    journeys: dsl.Input[dsl.Dataset],
    data: dsl.Input[dsl.Dataset],
    quality: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Run the data-quality checkpoint of the training table; a critical finding fails the step, drift warns.

    Args:
        config: YAML of all sections; reads `registry`, for what the champion was fitted on.
        journeys: Folder written by build_journeys.
        data: Folder written by retrieve_features.
        quality: Folder with suites.json and the Data Docs under data_docs/index.html.
        summary: Suites and warnings.
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from components.outputs import quality_summary, write_text
    from components.runtime import step
    from features.files import write_json
    from features.settings import load_section
    from model import registry
    from model.settings import RegistryConfig
    from validation import data_quality

    with step(), TemporaryDirectory() as folder:
        out = Path(quality.path)
        champion = registry.champion(load_section(config, "registry", RegistryConfig), Path(folder))
        suites = data_quality.validate_training_table(
            Path(journeys.path), Path(data.path), out, champion=champion.bundle if champion else None
        ).as_dicts()
        write_json(out / "suites.json", suites)
        write_text(summary, quality_summary(suites))
