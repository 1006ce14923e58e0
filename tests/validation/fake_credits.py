"""A credits/ folder in attribution's format, made from a world's truth: the judge's tests need no trained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.files import write_json


def judge_touches(root: Path) -> pd.DataFrame:
    """One row a (judge journey, position), with the truth's delta where the world has one."""
    journeys = pd.read_parquet(root / "journeys" / "journeys").query("split == 'judge'")
    touches = pd.read_parquet(root / "journeys" / "touches")
    length = journeys["length"].to_numpy()
    position = np.concatenate([np.arange(count) for count in length])
    rows = touches.iloc[np.repeat(journeys["offset"].to_numpy(), length) + position].reset_index(drop=True)
    for name in ("journey_id", "t_obs", "label"):
        rows[name] = np.repeat(journeys[name].to_numpy(), length)
    rows["position"] = position
    folder = root / "logs" / "truth" / "touchpoints"
    if not folder.is_dir():
        return rows.assign(truth=0.0)
    keys = ["user_id", "t_obs", "item_id", "ts"]
    truth = pd.read_parquet(folder).rename(columns={"delta": "truth"})
    for table in (rows, truth):
        for name in ("t_obs", "ts"):
            table[name] = pd.to_datetime(table[name], utc=True).dt.tz_localize(None).astype("datetime64[us]")
    return rows.merge(truth, on=keys, how="left")


def noisy(truth: np.ndarray, corr: float, rng: np.random.Generator) -> np.ndarray:
    """The truth plus noise such that the two correlate by `corr`; pure noise where the truth is constant."""
    spread = truth.std() or 1e-3
    return truth + spread * np.sqrt(1 / corr**2 - 1) * rng.standard_normal(len(truth))


def write_credits(root: Path, touches: pd.DataFrame, candidate: np.ndarray, champion: np.ndarray | None = None) -> Path:
    """Write root/credits and a minimal root/model; returns the credits' folder."""
    credits = root / "credits"
    last = touches.groupby("journey_id")["position"].transform("max") == touches["position"]
    keys = touches[["user_id", "t_obs", "item_id", "ts"]]
    _write(credits / "attributions", _attributions(touches, candidate))
    if champion is not None:
        _write(credits / "champion", _attributions(touches, champion))
    _write(credits / "baselines" / "last_touch", keys.assign(delta=last.astype(float)))
    rng = np.random.default_rng(1)
    _write(credits / "baselines" / "naive", keys.assign(delta=rng.standard_normal(len(touches))))
    _diagnostics(credits / "diagnostics", touches)
    write_json(root / "model" / "manifest.json", {"format": 1, "feature_schema_hash": "test", "files": {}})
    write_json(root / "model" / "history.json", {"epochs": [{"epoch": 0, "train_loss": 0.4, "selection_loss": 0.41}]})
    return credits


def _attributions(touches: pd.DataFrame, delta: np.ndarray) -> pd.DataFrame:
    positive = np.maximum(delta, 0.0)
    total = pd.Series(positive).groupby(touches["journey_id"].to_numpy()).transform("sum").to_numpy()
    names = ["user_id", "t_obs", "item_id", "author_id", "cluster_id", "ts"]
    return touches[names].assign(
        delta=delta,
        shapley=delta,
        share=np.divide(positive, total, out=np.zeros_like(total), where=total > 0),
        uplift_total=total,
        stderr=0.0,
        overlap_ess=32.0,
        abstained=False,
        label=touches["label"].to_numpy(),
    )


def _diagnostics(folder: Path, touches: pd.DataFrame) -> None:
    """u = the logit of watch_ratio, m = its mean over the cluster: what a crude model would know."""
    if "watch_ratio" in touches:
        watch = touches["watch_ratio"].to_numpy(dtype=float).clip(0.02, 0.98)
        u = np.log(watch / (1 - watch))
    else:
        u = np.zeros(len(touches))
    m = pd.Series(u).groupby(touches["cluster_id"].to_numpy()).transform("mean").to_numpy()
    _write(
        folder,
        touches[["journey_id", "position"]].assign(u=u, m=m, e=0.0),
        "touches.parquet",
    )
    residual = pd.Series(u - m).groupby(touches["journey_id"].to_numpy()).sum()
    _write(
        folder,
        pd.DataFrame(
            {
                "journey_id": residual.index,
                "split": "judge",
                "residual": residual.to_numpy(),
                "p_obs": 1 / (1 + np.exp(2.2 - 0.05 * residual.to_numpy())),
                "p_do": 0.1,
                "p_do_none": 0.05,
            }
        ),
        "journeys.parquet",
    )


def _write(folder: Path, table: pd.DataFrame, name: str = "part-0.parquet") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), folder / name, compression="zstd")
