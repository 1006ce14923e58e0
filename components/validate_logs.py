"""Great Expectations on the raw logs."""

from kfp import dsl

from components.base import component


@component
def validate_logs(
    logs: str,
    config: str,
    scheduled_time: str,
    quality: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Run the data-quality checkpoint of the raw logs; a critical finding fails the step.

    Args:
        logs: Folder of the logs.
        config: YAML of all sections; reads `contract`.
        scheduled_time: Slot of a scheduled run (ISO 8601); empty or unexpanded = none.
        quality: Folder with suites.json and the Data Docs under data_docs/index.html.
        summary: Suites and warnings.
    """
    from pathlib import Path

    from components.outputs import quality_summary, write_text
    from components.runtime import opened_logs, step
    from features.files import write_json
    from validation import data_quality

    with step():
        opened = opened_logs(logs, config, scheduled_time)
        out = Path(quality.path)
        suites = data_quality.validate_logs(opened, out).as_dicts()
        write_json(out / "suites.json", suites)
        write_text(summary, quality_summary(suites))
