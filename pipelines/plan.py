"""The plan of a run: what the allocator, with the new model, would offer to judge users now."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from allocator import client
from allocator.client import AllocatorConfig
from allocator.settings import token_from_environment
from features.journey_files import TRAINING_TABLE, read_parts
from pipelines.config import PlanConfig


def request_plan(
    url: str, *, journeys: Path, data: Path, run_id: str, config: PlanConfig, allocator: AllocatorConfig
) -> dict[str, Any]:
    """Make the run a budget of its own, ask for a plan on it, and return the allocator's answer.

    A resumed run gets the same plan again instead of spending twice. Raises AllocatorError.
    """
    budget = f"{allocator.budget}-{run_id}"
    client.set_budget(
        url,
        token=token_from_environment("admin"),
        name=budget,
        total_units=allocator.budget_units,
        timeout_s=allocator.timeout_s,
    )
    return client.allocate(
        url,
        token=token_from_environment("allocate"),
        request_id=f"run-{run_id}",
        budget=budget,
        users=plan_users(journeys, data, config),
        timeout_s=allocator.timeout_s,
    )


def plan_users(journeys: Path, data: Path, config: PlanConfig) -> list[dict[str, Any]]:
    """Judge users with their latest journey, as the allocator's API wants them, each with options of the catalogue."""
    profile = [spec["column"] for spec in json.loads((data / "schema.json").read_text())["profile"]]
    columns = ["user_id", "t_obs", "offset", "length", "split", *profile]
    table = read_parts(data, TRAINING_TABLE, columns).to_pandas()
    latest = table[table["split"] == "judge"].sort_values(["user_id", "t_obs"]).groupby("user_id").tail(1)
    touches = read_parts(journeys, "touches", ["item_id", "ts"])
    items = np.unique(pq.read_table(data / "items.parquet", columns=["item_id"])["item_id"].to_numpy())
    return [
        {
            "user_id": int(row["user_id"]),
            "profile": _profile(row[profile]),
            "history": _history(touches.slice(row["offset"], row["length"]).to_pandas(), row["t_obs"]),
            "options": _options(items, place, config),
        }
        for place, (_, row) in enumerate(latest.head(config.users).iterrows())
    ]


def _profile(values: pd.Series) -> dict[str, Any] | None:
    """Column -> value without the feature view's prefix, where it is known and finite; None for a user without any."""
    known = {
        str(name).removeprefix("profile__"): value.item() if isinstance(value, np.generic) else value
        for name, value in values.items()
        if not pd.isna(value) and (isinstance(value, str) or math.isfinite(value))
    }
    return known or None


def _history(touches: pd.DataFrame, t_obs: pd.Timestamp) -> list[dict[str, Any]]:
    gap_hours = (t_obs - touches["ts"]).dt.total_seconds() / 3600
    return [
        {"item_id": int(item), "gap_hours": float(gap)} for item, gap in zip(touches["item_id"], gap_hours, strict=True)
    ]


def _options(items: np.ndarray[Any, Any], place: int, config: PlanConfig) -> list[dict[str, int]]:
    """Items spread evenly over the catalogue, other ones for the next user; costs cycle through their range."""
    count = min(config.options, len(items))
    positions = (place + np.arange(count) * len(items) // count) % len(items)
    cost = config.lowest_cost + positions % (config.highest_cost - config.lowest_cost + 1)
    return [{"item_id": int(items[at]), "cost": int(units)} for at, units in zip(positions, cost, strict=True)]
