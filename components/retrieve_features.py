"""Journeys + Feast -> the training table."""

from kfp import dsl

from components.base import component


@component
def retrieve_features(
    logs: str,
    config: str,
    scheduled_time: str,
    work_dir: str,
    journeys: dsl.Input[dsl.Dataset],
    data: dsl.Output[dsl.Dataset],
    store: dsl.Output[dsl.Artifact],
) -> None:
    """Join each journey with the features that were known at its t_obs.

    Args:
        logs: Folder of the logs.
        config: YAML of all sections; reads `contract` and `shards`, but for its Ray cluster, which sees no artifacts.
        scheduled_time: Slot of a scheduled run (ISO 8601); empty or unexpanded = none.
        work_dir: Keeps finished parts between attempts.
        journeys: Folder written by build_journeys.
        data: Folder of the training table, the items and their schema.
        store: The Feast repository that served them; its online store holds the latest profiles.
    """
    from dataclasses import replace
    from pathlib import Path

    from components.runtime import opened_logs, step
    from features import feature_store, retrieval
    from features.settings import load_section
    from features.shards import ShardConfig

    with step():
        opened = opened_logs(logs, config, scheduled_time)
        retrieval.retrieve_features(
            opened,
            Path(journeys.path),
            Path(store.path),
            Path(data.path),
            shards=replace(load_section(config, "shards", ShardConfig), ray_address=""),
            work=Path(work_dir) / "data",
        )
        feature_store.materialise(Path(store.path))
