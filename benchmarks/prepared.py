"""Logs through journeys and retrieval, as a run takes them."""

from __future__ import annotations

from pathlib import Path

from features.journeys import JourneyConfig, build_journeys
from features.reader import open_logs
from features.retrieval import retrieve_features


def prepare_logs(logs_root: Path, folder: Path, config: JourneyConfig | None = None, store: Path | None = None) -> None:
    """Write journeys/ and data/ under `folder`. Raises AlmMtaError where the logs are not as the contract has them.

    `store` keeps the feature store's definitions from one data set to the next: they seldom differ.
    """
    logs = open_logs(logs_root)
    build_journeys(logs, config or JourneyConfig(), folder / "journeys")
    retrieve_features(logs, folder / "journeys", store or folder / "store", folder / "data")
