"""The judge and the gate."""

from kfp import dsl

from components.base import component


@component
def evaluate(
    logs: str,
    config: str,
    journeys: dsl.Input[dsl.Dataset],
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    credits: dsl.Input[dsl.Dataset],
    logs_quality: dsl.Input[dsl.Artifact],
    table_quality: dsl.Input[dsl.Artifact],
    evaluation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    roc: dsl.Output[dsl.ClassificationMetrics],
) -> str:
    """Judge the credits on users that no model was fitted on and decide; returns the verdict.

    A candidate that is the champion bit for bit is `unchanged`, whatever the judge says of it. Every judged candidate
    becomes an MLflow run, approved or not.

    Args:
        logs: Folder of the logs; read only for a truth that simulated worlds bring.
        config: YAML of all sections; reads `judge` and `registry`.
        journeys: Folder written by build_journeys.
        data: Folder written by retrieve_features.
        model: The candidate's bundle.
        credits: Folder written by attribute.
        logs_quality: Folder written by validate_logs.
        table_quality: Folder written by validate_training_table.
        evaluation: Folder of evaluation.json, decision.json and report.html.
        report: The report, one self-contained page.
        metrics: Flat metrics of the evaluation.
        roc: How the factual upload probability separates the judge's journeys; says nothing about causal validity.
    """
    import shutil
    from pathlib import Path

    import yaml

    from components.outputs import log_metrics, log_roc, mark_unchanged
    from components.runtime import step
    from features.files import read_json
    from features.settings import load_section
    from features.storage import location
    from model import registry
    from model.settings import RegistryConfig
    from validation.evaluate import evaluate as judge
    from validation.measured import JudgeConfig

    with step():
        out = Path(evaluation.path)
        decision = judge(
            journeys_dir=Path(journeys.path),
            data_dir=Path(data.path),
            credits_dir=Path(credits.path),
            model_dir=Path(model.path),
            logs_root=location(logs),
            config=load_section(config, "judge", JudgeConfig),
            out=out,
            champion_name=f"champion v{credits.metadata['champion']}",
            data_quality=[
                suite
                for folder in (logs_quality, table_quality)
                for suite in read_json(Path(folder.path) / "suites.json")
            ],
        )
        verdict = str(decision.verdict)
        if credits.metadata["unchanged"]:
            verdict = mark_unchanged(out, credits.metadata["champion"])
        settings = load_section(config, "registry", RegistryConfig)
        registry.record(settings, Path(model.path), out, yaml.safe_load(config))
        log_metrics(metrics, decision.metrics)
        log_roc(roc, Path(journeys.path), Path(credits.path))
        shutil.copyfile(out / "report.html", report.path)
        return verdict
