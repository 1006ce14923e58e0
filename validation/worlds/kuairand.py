"""A catalogue from KuaiRand's published feature tables (`features/importers/kuairand_tables.py`).

profile   log(1 + counts) and two flags, standardised, beside a few categorical columns
x         the leading principal components of the numeric ones, each of variance 1, cut at ±3
cluster   a video's first tag; the rare ones and none are one cluster
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from features.duck import fetch_one, quote, session
from features.errors import ConfigError
from features.importers.kuairand_tables import (
    CATEGORIES,
    COUNTS,
    FLAGS,
    RARE_TAG,
    open_users,
    open_videos,
    refuse_empty,
    user_rules,
    video_rules,
    videos_query,
)
from features.importers.published import checked_view
from features.importers.refusal import reading
from validation.worlds.base import Floats
from validation.worlds.catalogue import Catalogue

COMPONENTS, CUT = 4, 3.0


def read_kuairand(users_csv: Path, videos_csv: Path) -> Catalogue:
    """Read `user_features_*.csv` and `video_features_basic_*.csv`.

    Raises ConfigError naming file, column and line for anything that is not in their format.
    """
    with session() as connection:
        users = _users(connection, users_csv)
        videos = _videos(connection, videos_csv)
    numbers = {name: np.log1p(users[name].to_numpy()) for name in COUNTS}
    numbers |= {name: (users[name].to_numpy() == 1).astype(float) for name in FLAGS}
    standard_RC = _standardised(np.stack(list(numbers.values()), 1))
    return Catalogue(
        profiles=pa.table(
            {name: standard_RC[:, c].astype(np.float32) for c, name in enumerate(numbers)}
            | {name: users[name] for name in CATEGORIES}
        ),
        x_RP=_components(users_csv, standard_RC),
        item_I=videos["item_id"].to_numpy(),
        author_I=videos["author_id"].to_numpy(),
        cluster_I=videos["cluster_id"].to_numpy().astype(np.int64),
    )


def _users(connection: duckdb.DuckDBPyConnection, path: Path) -> pa.Table:
    """COUNTS, FLAGS (numbers) and CATEGORIES (text) of every user, by user_id."""
    file, rules = open_users(path, ("user_id", *COUNTS, *FLAGS, *CATEGORIES)), user_rules(COUNTS, FLAGS)
    columns = [f"CAST({quote(name)} AS DOUBLE) AS {quote(name)}" for name in (*COUNTS, *FLAGS)]
    columns += [quote(name) for name in CATEGORIES]
    with reading(connection, file, rules):
        checked_view(connection, "users_checked", file, rules)
        refuse_empty(connection, file, "users_checked")
        query = f"SELECT {', '.join(columns)} FROM users_checked ORDER BY CAST(user_id AS BIGINT)"
        return connection.sql(query).to_arrow_table()


def _videos(connection: duckdb.DuckDBPyConnection, path: Path) -> pa.Table:
    """item_id, author_id and cluster_id of every video, by item_id."""
    file = open_videos(path)
    with reading(connection, file, video_rules(file)):
        videos = connection.sql(videos_query(connection, file)).to_arrow_table()
        common = fetch_one(connection, "SELECT count_if(is_common) FROM clusters")[0]
    if common < 2:
        raise ConfigError(f"{path}: column 'tag': {common} tags of {RARE_TAG} videos or more; a world needs at least 2")
    return videos


def _standardised(value_RC: Floats) -> Floats:
    spread_C = value_RC.std(0)
    return np.asarray((value_RC - value_RC.mean(0)) / np.where(spread_C > 0, spread_C, 1.0))


def _components(path: Path, standard_RC: Floats) -> Floats:
    """x_RP; each component's largest loading is positive, so that it does not depend on the solver."""
    left_RC, size_C, loading_CC = np.linalg.svd(standard_RC, full_matrices=False)
    kept = int((size_C[:COMPONENTS] > 1e-6 * max(size_C[0], 1.0)).sum())
    if kept == 0:
        raise ConfigError(f"{path}: none of {', '.join((*COUNTS, *FLAGS))} varies between users")
    largest_P = np.abs(loading_CC[:kept]).argmax(1)
    sign_P = np.sign(loading_CC[np.arange(kept), largest_P])
    return np.asarray(np.clip(left_RC[:, :kept] * sign_P * np.sqrt(len(standard_RC)), -CUT, CUT))
