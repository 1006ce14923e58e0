"""The judge split from the stages' files: journeys/, data/ and credits/ -> arrays (`validation/judge_arrays.py`).

Every table is sorted by its key on the way in and must then match the judge's touches one by one, so a credit can
never land on another touch. Users go to shards by a hash of their own, unlike the one that splits users.

Shapes: J journeys, T touches, K clusters, R responses.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from features.duck import parquet_view, quote, session
from features.encoding import encode_profiles
from features.errors import AlmMtaError, ConfigError
from features.files import read_json
from features.journey_files import TRAINING_TABLE, part_files, positioned_touches
from features.splits import shares
from validation.judge_arrays import DECAY_HOURS, SHARDS, JudgeArrays
from validation.judge_columns import cluster_columns, later_arrays, post_counts, response_numbers, sum_JK
from validation.shards import Floats, Ints

logger = logging.getLogger(__name__)

BASELINES = ("last_touch", "naive")
OWN_COLUMNS = ("overlap_ess", "abstained")
"""Of the candidate's credits, read beside its deltas."""
HOUR_US = 3_600_000_000


@dataclass(frozen=True, kw_only=True)
class TouchKeys:
    """What names a touch in every file: (user_id, t_obs, ts, item_id), times in microseconds, ascending."""

    user_T: Ints
    t_obs_T: Ints
    ts_T: Ints
    item_T: Ints


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """The candidate's own view of the judge's touches; None where the model has no such part."""

    u_T: Floats | None = None
    """Response index of the touch."""
    m_T: Floats | None = None
    """Mediator prior of the touch's content."""
    residual_J: Floats | None = None
    """Mediator residual of the journey."""
    p_obs_J: Floats | None = None
    """P(Y | T, x) as observed."""
    overlap_ess_T: Floats | None = None
    """Effective number of journeys that the touch's credit is an average over."""
    abstained_T: Floats | None = None
    """1 where the credit abstains."""


@dataclass(frozen=True, kw_only=True)
class JudgeSplit:
    """Everything `evaluate` reads of the judge's users."""

    arrays: JudgeArrays
    keys: TouchKeys
    diagnostics: Diagnostics
    summary: dict[str, Any] = field(default_factory=dict)
    """credits/summary.json, empty without one."""


def shard_of(user_J: Ints) -> Ints:
    """Shard 0..999 of a user: splitmix64 of the id, the same on every machine and day."""
    z = user_J.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) % np.uint64(SHARDS)).astype(np.int64)


def load_judge(
    *, journeys_dir: Path, data_dir: Path, credits_dir: Path | None, min_treated: int, max_clusters: int,
    max_journeys: int,
) -> JudgeSplit:  # fmt: skip
    """Read the judge split; rare clusters merge by `clusters_to_keep`. Without credits there are no rankings.

    Where the split holds more than about `max_journeys`, a sample of its users is read, the same every time.

    Raises ConfigError where there are no judge journeys, AlmMtaError where credits do not match the journeys.
    """
    schema, summary = read_json(data_dir / "schema.json"), _summary(credits_dir)
    with session(threads=1) as connection:
        journeys = _journeys(connection, data_dir, max_journeys)
        if journeys.empty:
            raise ConfigError(
                f"{data_dir / TRAINING_TABLE}: no journey of split 'judge'; the judge needs "
                "users whose journeys end 8 days before the logs do"
            )  # fmt: skip
        measured = [*schema["responses"], *(["randomised"] if schema["has_randomised"] else [])]
        touches = _touches(connection, journeys_dir, journeys, measured)
        journey_T = np.repeat(np.arange(len(journeys)), journeys["length"].to_numpy())
        keys = _keys(journeys, journey_T, touches)
        files = {} if credits_dir is None else ranking_files(credits_dir)
        credit_T = {name: _aligned(connection, path, keys, name) for name, path in files.items()}
        diagnostics = (
            Diagnostics()
            if credits_dir is None
            else _diagnostics(connection, credits_dir / "diagnostics", journeys, journey_T, credit_T["candidate"])
        )
        parquet_view(connection, "post", part_files(journeys_dir, "judge"))
        post = connection.execute("FROM post SEMI JOIN judge USING (journey_id)").df()
        later = _later_touches(connection, journeys_dir, schema["responses"])
    logger.info("judge split: %d journeys, %d touches", len(journeys), len(journey_T))
    cluster_K, column_T = cluster_columns(touches["cluster_id"], journey_T, min_treated, max_clusters)
    gap_hours_T = (keys.t_obs_T - keys.ts_T) / HOUR_US
    decay_T = np.exp(-gap_hours_T / DECAY_HOURS)
    responses = response_numbers(touches, schema["responses"])
    leaky = set(summary.get("leaky_responses", ()))
    names = tuple(name for name in responses if name not in leaky)
    arrays = JudgeArrays(
        shard_J=shard_of(journeys["user_id"].to_numpy()),
        y_J=journeys["label"].to_numpy(dtype=np.float64),
        n_J=journeys["n_control"].to_numpy(dtype=np.float64),
        covered_J=journeys["n_days_covered"].to_numpy(dtype=np.float64),
        x_JP=encode_profiles(journeys, schema["profile"]).astype(np.float64),
        cluster_K=cluster_K,
        dose_JK=sum_JK(journey_T, column_T, decay_T, len(journeys), len(cluster_K)),
        post_JK=post_counts(post, journeys["journey_id"].to_numpy(), cluster_K),
        journey_T=journey_T,
        column_T=column_T,
        decay_T=decay_T,
        response_TR=np.stack([responses[name] for name in names], axis=1) if names else None,
        response_names=names,
        ignored={name: responses[name] for name in responses if name in leaky},
        later=later_arrays(later, journeys["journey_id"].to_numpy(), cluster_K, names),
        randomised_T=touches["randomised"] == 1 if schema["has_randomised"] else None,
        delta_T={name: columns["delta"] for name, columns in credit_T.items()},
    )
    return JudgeSplit(arrays=arrays, keys=keys, diagnostics=diagnostics, summary=summary)


def _summary(credits_dir: Path | None) -> dict[str, Any]:
    path = None if credits_dir is None else credits_dir / "summary.json"
    return read_json(path) if path is not None and path.exists() else {}


def ranking_files(credits_dir: Path) -> dict[str, Path]:
    """Ranking -> its credits, in the report's order; a champion only where there is one."""
    files = {
        "candidate": credits_dir / "attributions" / "part-0.parquet",
        "champion": credits_dir / "champion" / "part-0.parquet",
    }
    files |= {name: credits_dir / "baselines" / name / "part-0.parquet" for name in BASELINES}
    return {name: path for name, path in files.items() if name != "champion" or path.exists()}


def _journeys(connection: DuckDBPyConnection, data_dir: Path, most: int) -> pd.DataFrame:
    """The judge's journeys, or those of a sample of users that holds `most` of them. Leaves them in table judge."""
    parquet_view(connection, "training_table", part_files(data_dir, TRAINING_TABLE))
    users = connection.execute(
        "SELECT user_id, count(*) AS journeys FROM training_table WHERE split = 'judge' GROUP BY user_id"
    ).df()
    sample = _sample(users, most)
    if len(sample) < len(users):
        kept, total = sample["journeys"].sum(), users["journeys"].sum()
        logger.info("judge split: %d of %d users judge, with %d of %d journeys", len(sample), len(users), kept, total)
    connection.register("sample", sample)
    connection.execute(
        "CREATE TEMP TABLE judge AS SELECT *, epoch_us(t_obs::TIMESTAMP) AS t_obs_us FROM training_table "
        "WHERE split = 'judge' AND user_id IN (SELECT user_id FROM sample)"
    )
    connection.unregister("sample")
    return connection.execute("SELECT * FROM judge ORDER BY user_id, t_obs").df()


def _sample(users: pd.DataFrame, most: int) -> pd.DataFrame:
    """Users of `most` journeys together, by their place in the split, which has nothing to do with their shard."""
    if users["journeys"].sum() <= most:
        return users
    placed = users.iloc[np.argsort(shares(users["user_id"].tolist()))]
    return placed[placed["journeys"].cumsum() <= most]


def _touches(
    connection: DuckDBPyConnection, journeys_dir: Path, journeys: pd.DataFrame, measured: list[str]
) -> dict[str, NDArray[np.generic]]:
    """Columns of the judge's touches, one row a (journey, position); what was measured as numbers."""
    positioned_touches(connection, journeys_dir).create_view("touches")
    columns = connection.execute(
        f"SELECT position, item_id, cluster_id, epoch_us(ts::TIMESTAMP) AS ts{_numbers(measured)} FROM touches "
        "WHERE user_id IN (SELECT user_id FROM judge) ORDER BY position"
    ).fetchnumpy()
    length_J = journeys["length"].to_numpy(dtype=np.int64)
    first_J = np.cumsum(length_J) - length_J
    position_T = np.arange(length_J.sum()) + np.repeat(journeys["offset"].to_numpy(dtype=np.int64) - first_J, length_J)
    row_T = np.searchsorted(_plain(columns.pop("position")), position_T)
    return {name: _plain(column)[row_T] for name, column in columns.items()}


def _later_touches(
    connection: DuckDBPyConnection, journeys_dir: Path, responses: list[str]
) -> dict[str, NDArray[np.generic]]:
    """Columns of the touches in the window after the horizon, one row a (judge journey, touch)."""
    config = read_json(journeys_dir / "manifest.json")["config"]
    columns = connection.execute(
        f"SELECT j.journey_id, t.cluster_id{_numbers(responses)} FROM judge j JOIN touches t "
        "ON j.user_id = t.user_id AND t.ts > j.t_obs + $horizon AND t.ts <= j.t_obs + $horizon + $post "
        "ORDER BY j.journey_id, t.ts, t.item_id",
        {
            "horizon": timedelta(hours=config["horizon_hours"]),
            "post": timedelta(days=config["post_days"]),
        },
    ).fetchnumpy()
    return {name: _plain(column) for name, column in columns.items()}


def _numbers(names: list[str]) -> str:
    return "".join(f", {quote(name)}::DOUBLE AS {quote(name)}" for name in names)


def _plain(column: Any) -> NDArray[np.generic]:
    """DuckDB's masked array as a plain one; nulls of floats become NaN."""
    if not isinstance(column, np.ma.MaskedArray):
        return np.asarray(column)
    return np.asarray(column.filled(np.nan) if column.dtype.kind == "f" else column.data)


def _keys(journeys: pd.DataFrame, journey_T: Ints, touches: dict[str, NDArray[np.generic]]) -> TouchKeys:
    return TouchKeys(
        user_T=journeys["user_id"].to_numpy(dtype=np.int64)[journey_T],
        t_obs_T=journeys["t_obs_us"].to_numpy(dtype=np.int64)[journey_T],
        ts_T=touches["ts"].astype(np.int64),
        item_T=touches["item_id"].astype(np.int64),
    )


def _aligned(connection: DuckDBPyConnection, path: Path, keys: TouchKeys, ranking: str) -> dict[str, Floats]:
    """A credits file's numbers [T] in the order of the judge's touches; refuses a file of other touches."""
    if not path.exists():
        raise AlmMtaError(f"credits of ranking '{ranking}' are missing at {path}; run attribution again")
    columns = ["delta", *(OWN_COLUMNS if ranking == "candidate" else ())]
    parquet_view(connection, "credits", path)
    rows = connection.execute(
        f"SELECT c.user_id, epoch_us(c.t_obs::TIMESTAMP) AS t_obs, epoch_us(c.ts::TIMESTAMP) AS ts, c.item_id"
        f"{_numbers(columns)} FROM credits c "
        "SEMI JOIN judge ON c.user_id = judge.user_id AND epoch_us(c.t_obs::TIMESTAMP) = judge.t_obs_us "
        "ORDER BY c.user_id, c.t_obs, c.ts, c.item_id"
    ).fetchnumpy()
    expected = {"user_id": keys.user_T, "t_obs": keys.t_obs_T, "ts": keys.ts_T, "item_id": keys.item_T}
    found = {name: _plain(rows[name]) for name in expected}
    if any(not np.array_equal(found[name], expected[name]) for name in expected):
        raise AlmMtaError(
            f"credits of ranking '{ranking}' at {path} hold {len(found['ts']):,} touches of the judge's journeys "
            f"where those have {len(keys.ts_T):,}, or other touches; run attribution on these journeys again"
        )  # fmt: skip
    values = {name: np.asarray(_plain(rows[name]), dtype=np.float64) for name in columns}
    for name, value_T in values.items():
        if not np.isfinite(value_T).all():
            bad = int((~np.isfinite(value_T)).sum())
            raise AlmMtaError(f"credits of ranking '{ranking}' at {path}: {name} is not finite in {bad:,} rows")
    return values


def _diagnostics(
    connection: DuckDBPyConnection, folder: Path, journeys: pd.DataFrame, journey_T: Ints, credit_T: dict[str, Floats]
) -> Diagnostics:
    id_J = journeys["journey_id"].to_numpy(dtype=np.int64)
    touches = _diagnostic_rows(connection, folder / "touches.parquet", "journey_id, position")
    by_journey = _diagnostic_rows(connection, folder / "journeys.parquet", "journey_id")
    per_journey = None if by_journey is None else by_journey.set_index("journey_id").reindex(id_J)
    if touches is not None and not np.array_equal(touches["journey_id"].to_numpy(), id_J[journey_T]):
        raise AlmMtaError(
            f"{folder / 'touches.parquet'} holds other touches than the judge's journeys; attribute again"
        )
    return Diagnostics(
        u_T=_finite(touches, "u"),
        m_T=_finite(touches, "m"),
        residual_J=_finite(per_journey, "residual"),
        p_obs_J=_finite(per_journey, "p_obs"),
        overlap_ess_T=credit_T["overlap_ess"],
        abstained_T=credit_T["abstained"],
    )


def _diagnostic_rows(connection: DuckDBPyConnection, path: Path, order: str) -> pd.DataFrame | None:
    if not path.exists():
        return None
    parquet_view(connection, "diagnostics", path)
    return connection.execute(f"FROM diagnostics SEMI JOIN judge USING (journey_id) ORDER BY {order}").df()


def _finite(table: pd.DataFrame | None, column: str) -> Floats | None:
    """The column, or None where it is absent or has a value that is missing."""
    if table is None or column not in table:
        return None
    values = table[column].to_numpy(dtype=np.float64, na_value=np.nan)
    return values if np.isfinite(values).all() else None
