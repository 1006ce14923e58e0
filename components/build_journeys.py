"""Logs -> journeys with labels, controls and splits."""

from kfp import dsl

from components.base import component


@component
def build_journeys(
    logs: str,
    config: str,
    scheduled_time: str,
    work_dir: str,
    journeys: dsl.Output[dsl.Dataset],
    counts: dsl.Output[dsl.Metrics],
) -> None:
    """Check the logs against the data contract and cut them into journeys.

    Args:
        logs: Folder of the logs.
        config: YAML of all sections; reads `contract`, `journeys` and `shards`.
        scheduled_time: Slot of a scheduled run (ISO 8601); empty or unexpanded = none.
        work_dir: Keeps finished shards between attempts, and shows them to all machines that build.
        journeys: Folder of the touch table, journeys and the judge's table.
        counts: Numbers of journeys, labels, touches and users.
    """
    from pathlib import Path

    from components.outputs import log_metrics
    from components.runtime import opened_logs, step
    from features import journeys as domain
    from features.files import read_json
    from features.settings import load_section
    from features.shards import ShardConfig

    with step():
        opened = opened_logs(logs, config, scheduled_time)
        out = Path(journeys.path)
        domain.build_journeys(
            opened,
            load_section(config, "journeys", domain.JourneyConfig),
            out,
            shards=load_section(config, "shards", ShardConfig),
            work=Path(work_dir) / "journeys",
        )
        manifest = read_json(out / "manifest.json")
        log_metrics(counts, {name: manifest[name] for name in ("journeys", "labels", "touches", "users", "censored")})
