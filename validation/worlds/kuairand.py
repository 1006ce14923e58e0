"""A catalogue from KuaiRand's published feature tables (https://kuairand.com, CC BY-SA 4.0).

profile   log(1 + counts) and two flags, standardised, beside a few categorical columns
x         the leading principal components of the numeric ones, each of variance 1, cut at ±3
cluster   a video's first tag; tags of fewer than `RARE_TAG` videos, and videos without one, are one cluster
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from features.errors import ConfigError
from validation.worlds.base import Floats, Ints
from validation.worlds.catalogue import Catalogue

COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
FLAGS = ("is_video_author", "is_live_streamer")
CATEGORIES = ("user_active_degree", "onehot_feat1", "onehot_feat9", "onehot_feat10")
COMPONENTS, CUT = 4, 3.0
RARE_TAG = 40

NUMBER = r"^-?\d{1,15}(\.\d+)?$"
COUNT = r"^\d{1,15}(\.\d+)?$"
IDENTIFIER = r"^\d{1,18}$"


def read_kuairand(users_csv: Path, videos_csv: Path) -> Catalogue:
    """Read `user_features_*.csv` and `video_features_basic_*.csv`.

    Raises ConfigError naming file, column and line for anything that is not in their format.
    """
    users = _read(users_csv, dict.fromkeys(COUNTS, COUNT) | dict.fromkeys(FLAGS, NUMBER), CATEGORIES)
    videos = _read(videos_csv, dict.fromkeys(("video_id", "author_id"), IDENTIFIER), ("tag",))
    numbers = {name: np.log1p(_numbers(users, name)) for name in COUNTS}
    numbers |= {name: (_numbers(users, name) == 1).astype(float) for name in FLAGS}
    standard_RC = _standardised(np.stack(list(numbers.values()), 1))
    item_I = _identifiers(videos, "video_id")
    _refuse_repeated(videos_csv, item_I)
    return Catalogue(
        profiles=pa.table(
            {name: standard_RC[:, c].astype(np.float32) for c, name in enumerate(numbers)}
            | {name: users[name] for name in CATEGORIES}
        ),
        x_RP=_components(users_csv, standard_RC),
        item_I=item_I,
        author_I=_identifiers(videos, "author_id"),
        cluster_I=_clusters(videos_csv, videos["tag"]),
    )


def _read(path: Path, patterns: dict[str, str], texts: tuple[str, ...]) -> pa.Table:
    """The columns named, as text, those of `patterns` checked cell by cell."""
    names = [*patterns, *texts]
    ragged: list[str] = []

    def refuse(row: csv.InvalidRow) -> str:
        ragged.append(f"line {row.number}: {row.actual_columns} cells instead of {row.expected_columns}")
        return "error"

    try:
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(use_threads=False),  # or rows have no number
            parse_options=csv.ParseOptions(invalid_row_handler=refuse, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(f"{path}: {ragged[0] if ragged else error}; expected a CSV file of KuaiRand") from error
    if absent := [name for name in names if name not in table.column_names]:
        raise ConfigError(
            f"{path}: no column {', '.join(absent)}; it has {', '.join(table.column_names)}; "
            "expected a CSV file of KuaiRand"
        )
    if table.num_rows == 0:
        raise ConfigError(f"{path}: holds no rows")
    for name, pattern in patterns.items():
        fits = pc.match_substring_regex(table[name], pattern)
        if (row := pc.index(fits, False).as_py()) >= 0:
            raise ConfigError(
                f"{path}: line {row + 2}, column '{name}': {table[name][row].as_py()!r} is not "
                + {NUMBER: "a number", COUNT: "a number of 0 or more", IDENTIFIER: "an integer id"}[pattern]
            )
    return table.select(names)


def _numbers(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].cast(pa.float64()).to_numpy())


def _identifiers(table: pa.Table, name: str) -> Ints:
    return np.asarray(table[name].cast(pa.int64()).to_numpy())


def _refuse_repeated(path: Path, item_I: Ints) -> None:
    _, first_J, count_J = np.unique(item_I, return_index=True, return_counts=True)
    if (count_J > 1).any():
        first = first_J[count_J > 1].min()
        again = np.flatnonzero(item_I == item_I[first])[1]
        raise ConfigError(
            f"{path}: line {again + 2}, column 'video_id': {item_I[first]} is in line {first + 2} already"
        )


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


def _clusters(path: Path, tags: pa.ChunkedArray) -> Ints:
    first_I = np.array([str(tag).split(",")[0].strip() for tag in tags.to_pylist()])
    name_J, tag_I, count_J = np.unique(first_I, return_inverse=True, return_counts=True)
    common_J = (count_J >= RARE_TAG) & (name_J != "")
    if common_J.sum() < 2:
        raise ConfigError(
            f"{path}: column 'tag': {common_J.sum()} tags of {RARE_TAG} videos or more; a world needs at least 2"
        )
    cluster_J = np.where(common_J, np.cumsum(common_J) - 1, common_J.sum())
    return cluster_J[tag_I].astype(np.int64)
