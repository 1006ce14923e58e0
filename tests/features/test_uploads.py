"""uploads.parquet: what the labels uploaded, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.journeys import JourneyConfig, build_journeys
from features.reader import open_logs
from features.retrieval import retrieve_features

NOW = datetime(2025, 1, 1, tzinfo=UTC)
START = datetime(2024, 3, 1, 12)


def retrieved(root: Path, workdir: Path) -> Path:
    logs = open_logs(root, now=NOW)
    build_journeys(logs, JourneyConfig(), workdir / "journeys")
    retrieve_features(logs, workdir / "journeys", workdir / "store", workdir / "data")
    return workdir / "data" / "uploads.parquet"


def uploads(tables: dict[str, pa.Table], rows: list[tuple[int, int, float, list[float] | None]]) -> dict[str, pa.Table]:
    """The tables with these uploads: user, upload_id, hours after START, embedding."""
    users, ids, hours, embeddings = zip(*rows, strict=True)
    replaced = pa.table(
        {
            "user_id": pa.array(users, pa.int64()),
            "upload_id": pa.array(ids, pa.int64()),
            "ts": pa.array([START + timedelta(hours=h) for h in hours], pa.timestamp("us")),
            "embedding": pa.array(embeddings, pa.list_(pa.float32())),
        }
    )
    return {**tables, "uploads": replaced}


def test_only_labelled_and_embedded_uploads_are_kept(
    tables: dict[str, pa.Table], write: Callable[..., Path], tmp_path: Path
) -> None:
    """User 1 is observed at .25 h and 48 h. 9 labels the first, 2^60 the second; 5 comes too late, 3 has no embedding
    though it labels user 2's 5 h."""
    rows: list[tuple[int, int, float, list[float] | None]] = [
        (1, 9, 0.75, [1.0, 0.0]), (1, 2**60, 49, [0.0, 2.0]), (1, 5, 400, [3.0, 3.0]), (2, 3, 6, None),
    ]  # fmt: skip
    path = retrieved(write(uploads(tables, rows)), tmp_path)
    assert pq.read_table(path).to_pylist() == [
        {"upload_id": 9, "embedding": [1.0, 0.0]},
        {"upload_id": 2**60, "embedding": [0.0, 2.0]},
    ]


def test_logs_without_upload_embeddings_have_no_file(
    tables: dict[str, pa.Table], write: Callable[..., Path], tmp_path: Path
) -> None:
    tables["uploads"] = tables["uploads"].drop_columns(["embedding"])
    assert not retrieved(write(tables), tmp_path).exists()
