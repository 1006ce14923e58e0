"""Fixtures that several packages' tests share."""

from __future__ import annotations

import pytest
from small_world import Prepared


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """600 users of the logit world."""
    from features.journeys import JourneyConfig, build_journeys
    from features.reader import open_logs
    from features.retrieval import retrieve_features
    from validation.worlds import WORLDS, simulate

    root = tmp_path_factory.mktemp("prepared")
    simulate(WORLDS["logit"], 600, 3, root / "logs")
    logs = open_logs(root / "logs")
    build_journeys(logs, JourneyConfig(), root / "journeys")
    retrieve_features(logs, root / "journeys", root / "store", root / "data")
    return Prepared(logs=root / "logs", journeys=root / "journeys", data=root / "data")
