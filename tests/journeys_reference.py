"""Journeys by their definition, a row at a time in pandas: slow and obvious."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa

from features.journeys import JourneyConfig, split_of

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
COLUMNS = [
    "user_id", "t_obs", "offset", "length", "label", "label_ts", "upload_id", "n_control", "n_days_covered", "split",
]  # fmt: skip


def as_tables(touches: list[tuple[int, int, datetime]], uploads: list[tuple[int, int, datetime]]) -> dict[str, Any]:
    """Touches (user, item, ts) and uploads (user, upload, ts); an item's author and cluster follow its id."""
    users, items, times = zip(*touches, strict=True)
    uploaders, ids, moments = zip(*uploads, strict=True)
    return {
        "touchpoints": pa.table(
            {
                "user_id": pa.array(users, pa.int64()),
                "item_id": pa.array(items, pa.int64()),
                "author_id": pa.array([item // 2 for item in items], pa.int64()),
                "cluster_id": pa.array([item % 3 for item in items], pa.int32()),
                "ts": pa.array(times, pa.timestamp("us")),
            }
        ),
        "uploads": pa.table(
            {
                "user_id": pa.array(uploaders, pa.int64()),
                "upload_id": pa.array(ids, pa.int64()),
                "ts": pa.array(moments, pa.timestamp("us")),
            }
        ),
    }


def reference(tables: dict[str, Any], config: JourneyConfig) -> dict[str, pd.DataFrame]:
    """The definition of a journey, word by word, a row at a time."""
    touches = tables["touchpoints"].to_pandas().sort_values(["user_id", "ts", "item_id"], ignore_index=True)
    uploads = tables["uploads"].to_pandas().sort_values(["user_id", "ts", "upload_id"], ignore_index=True)
    begin = min(touches["ts"].min(), uploads["ts"].min())
    end = max(touches["ts"].max(), uploads["ts"].max())
    horizon, post = config.horizon_hours * HOUR, config.post_days * DAY
    rows: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []
    for user, seen in touches.groupby("user_id"):
        mine = uploads[uploads["user_id"] == user]
        ends = []
        for position, ts in seen["ts"].items():
            later = seen.loc[position + 1 :, "ts"]
            if later.empty:
                ends.append(position)
            else:
                between = ((mine["ts"] > ts) & (mine["ts"] <= later.iloc[0])).any()
                if between or later.iloc[0] - ts > config.inactivity_minutes * MINUTE:
                    ends.append(position)
        moments = seen.loc[ends, "ts"]
        labelled_by = {
            moments[moments < up].max(): (up, upload_id)
            for up, upload_id in reversed(list(zip(mine["ts"], mine["upload_id"], strict=True)))
            if (moments < up).any()
        }
        for position, t_obs in moments.items():
            split = split_of(int(str(user)), config)
            if t_obs + horizon > end or (split == "judge" and t_obs + horizon + post > end):
                continue
            window = seen[(seen["ts"] >= t_obs - config.lookback_days * DAY) & (seen.index <= position)]
            window = window.tail(config.max_touches)
            up, upload_id = labelled_by.get(t_obs, (None, None))
            if up is not None and up > t_obs + horizon:
                up, upload_id = None, None
            since, until = t_obs - config.control_start_days * DAY, t_obs - config.control_end_days * DAY
            rows.append(
                {
                    "user_id": user,
                    "t_obs": t_obs,
                    "offset": window.index[0],
                    "length": len(window),
                    "label": int(up is not None),
                    "label_ts": up,
                    "upload_id": upload_id,
                    "n_control": ((mine["ts"] >= since) & (mine["ts"] < until)).sum(),
                    "n_days_covered": max(0, (until - max(since, begin)) // DAY),
                    "split": split,
                }
            )
            if split == "judge":
                exposed = seen[(seen["ts"] > t_obs + horizon) & (seen["ts"] <= t_obs + horizon + post)]
                counts = exposed["cluster_id"].value_counts().sort_index()
                after += [{"journey_id": position, "cluster_id": k, "n_touches": n} for k, n in counts.items()]
    journeys = pd.DataFrame(rows, columns=COLUMNS)
    journeys.insert(0, "journey_id", journeys["offset"] + journeys["length"] - 1)
    journeys["label_ts"] = pd.to_datetime(journeys["label_ts"])
    return {
        "touches": touches,
        "journeys": journeys,
        "judge": pd.DataFrame(after, columns=["journey_id", "cluster_id", "n_touches"]),
    }


def assert_same(built: Mapping[str, pd.DataFrame], expected: Mapping[str, pd.DataFrame]) -> None:
    """Equal values, column by column, whatever their width."""
    for name, wanted in expected.items():
        got = built[name]
        if "upload_id" in wanted:
            wanted, got = (f.assign(upload_id=f["upload_id"].astype("Int64").fillna(-1)) for f in (wanted, got))
        times = {c: "datetime64[us]" for c in wanted if c in ("ts", "t_obs", "label_ts")}
        pd.testing.assert_frame_equal(
            got.astype(times), wanted[list(got.columns)].astype(times), check_dtype=False, obj=name
        )
