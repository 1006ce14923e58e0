"""The DuckDB views that the suites look at, over Parquet files named by path (never by interpolated SQL).

List columns stay out (GX measures the length of their text): scalars derived from them stand in their place. In the
training table NaN and infinity count as null: to DuckDB, NaN is a value, and above any lower bound.
`<table>_facts` are tables of one row, computed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb

from features.contract import TABLES
from features.duck import parquet_view, quote, read_parquet
from features.duplicates import repeated
from features.journey_files import TRAINING_TABLE, part_files, positioned_touches
from features.reader import Logs
from features.schema import Present

# Every touch of every journey is looked at once: journeys are ranges of the touch table, whose row number is position.
_TRAINING_FACTS = """
CREATE TABLE training_facts AS
WITH touch AS (SELECT position, ts, cluster_id FROM touches),
ends AS (
    SELECT t.journey_id, count(last.position) AS found, count(*) FILTER (last.ts > t.t_obs) AS late
    FROM training_table t LEFT JOIN touch last ON last.position = t."offset" + t.length - 1
    GROUP BY t.journey_id
),
split_counts AS (SELECT user_id, count(DISTINCT split) AS n FROM training_table GROUP BY user_id)
SELECT
    count(*) FILTER (split = 'fit') AS fit_rows,
    count(*) FILTER (split = 'selection') AS selection_rows,
    count(*) FILTER (split = 'judge') AS judge_rows,
    count(*) FILTER (split = 'fit' AND label = 1) AS fit_uploads,
    count(*) FILTER (split = 'selection' AND label = 1) AS selection_uploads,
    count(*) FILTER (split = 'judge' AND label = 1) AS judge_uploads,
    count(*) FILTER (split = 'fit' AND label = 0) AS fit_without_upload,
    count(*) FILTER (split = 'judge' AND label = 0) AS judge_without_upload,
    avg(label) AS label_rate,
    coalesce(avg(CAST(profile_missing AS INT)), 0) AS profile_null_share,
    (SELECT count(*) FROM split_counts WHERE n > 1) AS users_in_two_splits,
    (SELECT count(*) FROM journeys j FULL JOIN training_table t
        ON j.journey_id = t.journey_id AND j.user_id = t.user_id AND j.t_obs = t.t_obs AND j.label = t.label
        WHERE j.journey_id IS NULL OR t.journey_id IS NULL) AS rows_changed_by_retrieval,
    (SELECT count(*) FROM ends WHERE found = 0) AS touches_out_of_range,
    (SELECT coalesce(sum(late), 0) FROM ends) AS touches_after_t_obs,
    $ids_repeated AS ids_repeated,
    $moments_repeated AS moments_repeated,
    $exposures_repeated AS exposures_repeated
FROM training_table
"""
_KEYS = {
    "ids_repeated": ("training_table", ("journey_id",)),
    "moments_repeated": ("training_table", ("user_id", "t_obs")),
    "exposures_repeated": ("judge_exposures", ("journey_id", "cluster_id")),
}

OVERLAP_JOURNEYS = 100_000
"""Of the judge, from here to twice as many at most: shares need no more."""
_LEAST_TREATED = 0.01

# A row is a cluster in a stratum of like journeys: those of users with as many earlier uploads (0, 1, 2, more).
_CLUSTER_OVERLAP = f"""
CREATE TABLE cluster_overlap AS
WITH judged AS (
    SELECT journey_id, "offset", length, least(n_control, 3) AS stratum,
        row_number() OVER () AS number, count(*) OVER () AS n
    FROM training_table WHERE split = 'judge'
),
sampled AS (SELECT * FROM judged WHERE number % greatest(n // {OVERLAP_JOURNEYS}, 1) = 0),
positions AS (SELECT journey_id, stratum, unnest(range("offset", "offset" + length)) AS position FROM sampled),
exposed AS (
    SELECT DISTINCT journey_id, stratum, cluster_id
    FROM positions JOIN (SELECT position, cluster_id FROM touches) USING (position)
),
treated AS (SELECT cluster_id, stratum, count(*) AS treated FROM exposed GROUP BY cluster_id, stratum),
strata AS (SELECT stratum, count(*) AS journeys FROM sampled GROUP BY stratum),
clusters AS (
    SELECT cluster_id FROM treated GROUP BY cluster_id
    HAVING sum(treated) >= {_LEAST_TREATED} * (SELECT sum(journeys) FROM strata)
)
SELECT cluster_id, stratum, coalesce(treated, 0) AS treated, journeys
FROM clusters CROSS JOIN strata LEFT JOIN treated USING (cluster_id, stratum)
"""


def create_training_views(connection: duckdb.DuckDBPyConnection, *, data_dir: Path, journeys_dir: Path) -> None:
    """Views training_table, journeys, touches, judge_exposures; tables training_facts and cluster_overlap."""
    table = read_parquet(connection, part_files(data_dir, TRAINING_TABLE))
    profile = [column for column in table.columns if column.startswith("profile__")]
    missing = " AND ".join(f"{quote(column)} IS NULL" for column in profile) or "FALSE"
    kept = ", ".join(_scalars(table))
    table.project(
        f"{kept}, ({missing}) AS profile_missing, (label = 1) = (label_ts IS NOT NULL) AS label_has_its_upload, "
        "epoch(label_ts - t_obs) / 3600 AS hours_to_upload"
    ).create_view("training_table")
    parquet_view(connection, "journeys", part_files(journeys_dir, "journeys"))
    touches = positioned_touches(connection, journeys_dir)
    touches.project(", ".join(_scalars(touches))).create_view("touches")
    parquet_view(connection, "judge_exposures", part_files(journeys_dir, "judge"))
    counts = {name: repeated(connection, view, key) for name, (view, key) in _KEYS.items()}
    connection.execute(_TRAINING_FACTS, counts)
    connection.execute(_CLUSTER_OVERLAP)


def _scalars(relation: duckdb.DuckDBPyRelation) -> Iterator[str]:
    """The columns that are not lists, structs or maps; floats that are not finite as null."""
    for column, kind in zip(relation.columns, relation.types, strict=True):
        name = quote(column)
        if kind.id in {"float", "double"}:
            yield f"CASE WHEN isfinite({name}) THEN {name} END AS {name}"
        elif kind.id not in {"list", "array", "struct", "map", "union"}:
            yield name


_LOG_FACTS = """
CREATE TABLE logs_facts AS
WITH days AS (
    SELECT date_diff('day', min(day), max(day)) + 1 AS spanned, count(*) AS seen
    FROM (SELECT DISTINCT CAST(ts AS DATE) AS day FROM touchpoints)
),
users AS (SELECT DISTINCT user_id FROM touchpoints),
uploaders AS (SELECT DISTINCT user_id FROM uploads)
SELECT
    (SELECT count(DISTINCT cluster_id) FROM touchpoints) AS clusters,
    (SELECT count(*) FROM uploaders) AS users_who_upload,
    (SELECT count(*) FROM uploaders SEMI JOIN users USING (user_id)) AS uploaders_with_touches,
    days.spanned AS days,
    1 - days.seen / days.spanned AS days_missing_share,
    responses.*,
    repeated.*
FROM days, responses, repeated
"""


def create_log_views(connection: duckdb.DuckDBPyConnection, logs: Logs) -> None:
    """A view per table of the contract that is there, and the table logs_facts."""
    logs.register(connection)
    for table, columns in logs.columns.items():
        selected = ", ".join(_selected(column, logs.embedding_dim) for column in columns)
        connection.view(f"raw_{table}").project(selected).create_view(table)
    figures = [figure for name in logs.responses for figure in _response_figures(quote(name), name)]
    connection.execute(f"CREATE TABLE responses AS SELECT {', '.join(figures) or '0 AS none'} FROM main.touchpoints")
    counts = {f"{table}_repeated": repeated(connection, table, TABLES[table].key) for table in logs.columns}
    connection.execute(f"CREATE TABLE repeated AS SELECT {', '.join(f'${name} AS {name}' for name in counts)}", counts)
    connection.execute(_LOG_FACTS)


def _selected(column: Present, embedding_dim: int) -> str:
    name = quote(column.name)
    if column.dtype == "FLOAT[]":
        finite, usual = quote(f"{column.name}_is_finite"), quote(f"{column.name}_has_usual_length")
        return f"isfinite(list_sum({name})) AS {finite}, len({name}) = {embedding_dim:d} AS {usual}"
    return name


def _response_figures(quoted: str, name: str) -> tuple[str, str]:
    varies, nulls = quote(f"{name}_varies"), quote(f"{name}_null_share")
    return (
        f"CAST(coalesce(min({quoted}) < max({quoted}), FALSE) AS INT) AS {varies}",
        f"avg(CAST({quoted} IS NULL AS INT)) AS {nulls}",
    )
