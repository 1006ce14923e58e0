from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from features.errors import ConfigError
from features.journeys import JourneyConfig
from features.reader import open_logs
from pipelines.config import PlanConfig
from pipelines.plan import plan_users
from pipelines.preflight import preflight

DAY = pd.Timestamp("2026-01-01")


def test_sessions_clusters_and_what_is_lacking_are_counted(tmp_path: Path) -> None:
    """User 1: two touches 10 min apart, one an hour later = 2 sessions. User 2: one. An upload 20 days later ends the
    logs, so that all 3 sessions are early enough for the judge; clusters 7 and 8 are in 3 and 1 of them.
    """
    minutes = [0, 10, 70, 0]
    touches = pd.DataFrame(
        {
            "user_id": [1, 1, 1, 2],
            "item_id": [1, 2, 1, 1],
            "author_id": [5, 5, 5, 5],
            "cluster_id": pd.array([7, 8, 7, 7], dtype="int32"),
            "ts": [DAY + pd.Timedelta(minutes=m) for m in minutes],
        }
    )
    uploads = pd.DataFrame({"user_id": [2], "upload_id": [1], "ts": [DAY + pd.Timedelta(days=20)]})
    for name, table in (("touchpoints", touches), ("uploads", uploads)):
        (tmp_path / name).mkdir()
        table.astype({"ts": "datetime64[us]"}).to_parquet(tmp_path / name / "part-0.parquet")
    found = preflight(open_logs(tmp_path), JourneyConfig(fit_share=0.25, selection_share=0.25))
    assert (found.journeys, found.judged, found.clusters) == (3, 1, 2)
    assert found.treated_per_cell == 1  # the median of 3 and 1 sessions, half of them judged
    assert found.buckets == 0
    assert "no mediator evidence" in found.lacking[0]
    assert "inconclusive" in found.lines()[1]


def test_plan_users_are_judge_users_with_their_latest_journey(tmp_path: Path) -> None:
    hours = [0, 1, 5]
    touches = pd.DataFrame({"item_id": [10, 20, 30], "ts": [DAY + pd.Timedelta(hours=h) for h in hours]})
    table = pd.DataFrame(
        {
            "user_id": [1, 1, 2],
            "t_obs": [DAY + pd.Timedelta(hours=h) for h in (1, 5, 5)],
            "offset": [0, 1, 0],
            "length": [2, 2, 1],
            "split": ["judge", "judge", "fit"],
            "profile__x0": [0.5, 0.5, 1.0],
            "profile__region": ["north", "north", None],
            "profile__x1": [0.0, float("inf"), 0.0],
            "profile__x2": [0.0, float("nan"), 0.0],
        }
    )
    for name in ("touches", "training_table"):
        (tmp_path / name).mkdir()
    touches.to_parquet(tmp_path / "touches" / "part-00000.parquet")
    table.to_parquet(tmp_path / "training_table" / "part-00000.parquet")
    pd.DataFrame({"item_id": [10, 20, 30, 40]}).to_parquet(tmp_path / "items.parquet")
    profile = [{"column": column} for column in table if column.startswith("profile__")]
    (tmp_path / "schema.json").write_text(json.dumps({"profile": profile}))
    config = PlanConfig(users=5, options=2, lowest_cost=1, highest_cost=3)
    assert plan_users(tmp_path, tmp_path, config) == [
        {
            "user_id": 1,
            "profile": {"x0": 0.5, "region": "north"},
            "history": [{"item_id": 20, "gap_hours": 4.0}, {"item_id": 30, "gap_hours": 0.0}],
            "options": [{"item_id": 10, "cost": 1}, {"item_id": 30, "cost": 3}],
        }
    ]


def test_a_plan_that_costs_less_than_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="lowest_cost"):
        PlanConfig(lowest_cost=4, highest_cost=3)
