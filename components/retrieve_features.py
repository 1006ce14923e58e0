"""Journeys + Feast -> the training table."""

from kfp import dsl

from components.base import component


@component
def retrieve_features(
    logs: str,
    config: str,
    scheduled_time: str,
    journeys: dsl.Input[dsl.Dataset],
    data: dsl.Output[dsl.Dataset],
    store: dsl.Output[dsl.Artifact],
) -> None:
    """Join each journey with the features that were known at its t_obs.

    Args:
        logs: Folder of the logs.
        config: YAML of all sections; reads `contract`.
        scheduled_time: Present of a scheduled run (ISO 8601); empty or unexpanded = now.
        journeys: Folder written by build_journeys.
        data: Folder of the training table, the items and their schema.
        store: The Feast repository that served them.
    """
    from pathlib import Path

    from components.runtime import moment, step
    from features import retrieval
    from features.reader import open_logs
    from features.settings import ContractConfig, load_section

    with step():
        names = load_section(config, "contract", ContractConfig)
        opened = open_logs(logs, mapping=names.mapping, now=moment(scheduled_time))
        retrieval.retrieve_features(opened, Path(journeys.path), Path(store.path), Path(data.path))
