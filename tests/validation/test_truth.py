"""Credits against the truth, and the observational figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from validation.judge_data import TouchKeys
from validation.observational import credit_tables, upload_metrics
from validation.truth import load_truth, top_efficiency, truth_metrics


def test_truth_metrics_by_hand() -> None:
    """truth 0, 2, 4, 6 and estimates half of it: corr 1, slope 2, PEHE √(14/4) over sd √5."""
    truth = np.array([0.0, 2.0, 4.0, 6.0])
    found = truth_metrics(truth / 2, truth, np.array([0, 0, 1, 1]))
    assert found is not None
    assert found.corr == pytest.approx(1.0)
    assert found.slope == pytest.approx(2.0)
    assert found.pehe_over_sd == pytest.approx(np.sqrt(3.5 / 5))
    assert found.cluster_spearman == pytest.approx(1.0)
    assert found.top1_efficiency == pytest.approx(2.0)


def test_touches_of_unknown_truth_are_left_out() -> None:
    truth = np.array([0.0, 1.0, np.nan])
    found = truth_metrics(np.array([0.0, 1.0, 99.0]), truth, np.zeros(3, dtype=np.int64))
    assert found is not None
    assert found.pehe_over_sd == pytest.approx(0.0)


def test_no_effect_leaves_nothing_to_correlate_with() -> None:
    assert truth_metrics(np.arange(4.0), np.zeros(4), np.zeros(4, dtype=np.int64)) is None


def test_ties_at_the_top_share_the_places() -> None:
    """A constant score picks the average touch: efficiency 1, whatever the order of rows."""
    truth = np.arange(1.0, 201.0)
    assert top_efficiency(np.zeros(200), truth) == pytest.approx(1.0)
    assert top_efficiency(truth, truth) == pytest.approx(199.5 / 100.5)


def test_truth_is_joined_by_key(tmp_path: Path) -> None:
    folder = tmp_path / "truth" / "touchpoints"
    folder.mkdir(parents=True)
    time = pd.to_datetime([5, 7, 9], unit="us")
    pd.DataFrame(
        {"user_id": [1, 1, 2], "t_obs": time, "item_id": [10, 11, 10], "ts": time, "delta": [0.1, 0.2, 0.3]}
    ).to_parquet(folder / "part-0.parquet")
    keys = TouchKeys(
        user_T=np.array([2, 1, 3]), t_obs_T=np.array([9, 5, 5]), ts_T=np.array([9, 5, 5]), item_T=np.array([10, 10, 10])
    )
    np.testing.assert_array_equal(load_truth(tmp_path, keys), [0.3, 0.1, np.nan])
    assert load_truth(tmp_path / "elsewhere", keys) is None


def test_upload_metrics_by_hand() -> None:
    """Of 2 x 2 pairs 3 are in order: AUC .75."""
    metrics = upload_metrics(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert metrics["upload_auc"] == pytest.approx(0.75)
    assert metrics["upload_log_loss"] == pytest.approx(-np.log([0.9, 0.6, 0.35, 0.8]).mean())
    assert "upload_auc" not in upload_metrics(np.array([0.1, 0.2]), np.zeros(2))


def test_coverage_counts_uploads_of_the_judge_only(tmp_path: Path) -> None:
    """Three judge uploads: two attributed touches, one, none; a fit upload and a journey without one do not count."""
    times = pd.to_datetime([1, 1, 2, 2, 3, 4, 5], unit="us")
    credits = pd.DataFrame(
        {
            "user_id": [1, 1, 2, 2, 3, 4, 5],
            "t_obs": times,
            "author_id": [7, 8, 7, 8, 7, 7, 7],
            "cluster_id": [0, 1, 0, 1, 0, 0, 0],
            "delta": [0.2, 0.1, 0.3, 0.0, 0.0, 0.5, 0.5],
            "share": [0.6, 0.4, 0.95, 0.05, 0.0, 1.0, 1.0],
            "label": [1, 1, 1, 1, 1, 1, 0],
        }
    )
    journeys = credits[["user_id", "t_obs"]].drop_duplicates().assign(split=["judge", "judge", "judge", "fit", "judge"])
    for name in ("attributions", "training_table"):
        (tmp_path / name).mkdir()
    credits.to_parquet(tmp_path / "attributions" / "part-0.parquet")
    journeys.to_parquet(tmp_path / "training_table" / "part-00000.parquet")
    coverage, clusters, creators = credit_tables(tmp_path, tmp_path)
    assert coverage.coverage == pytest.approx(2 / 3)
    assert coverage.touches_per_covered_upload == pytest.approx(3 / 2)
    assert {row["cluster_id"]: row["touches"] for row in clusters} == {0: 4, 1: 2}
    assert [(row["author_id"], row["covered_uploads"]) for row in creators] == [(7, 2), (8, 1)]
    assert creators[0]["credit_sum"] == pytest.approx(1.55)
