"""Profiles as numbers: the one encoding that model, validation and allocator share.

    numeric      (x − mean) / std, a missing x takes the median first
    categorical  one column a fitted category, then one for any other; a missing value is all zeros
    last column  profile_missing = 1 where the user has no profile at all (only if there is any profile column)

Everything fitted (median, mean, std, categories) is in `profile_spec`, the `profile` list of schema.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.errors import ConfigError

MAX_CATEGORIES = 20

Spec = Sequence[Mapping[str, Any]]


def fit_column(column: str, values: pd.Series[Any], kind: str) -> dict[str, Any]:
    """The spec of one profile column, fitted on `values` (the fit split's rows; NaN or null is missing).

    kind: 'numeric' (median, mean, std; a constant column has std 1) or 'categorical' (the MAX_CATEGORIES most
    frequent categories, ties by name; kept in order of their names, so that counts which change rank change nothing).
    """
    if kind == "categorical":
        counts = values.dropna().astype(str).value_counts()
        ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
        return {"column": column, "kind": kind, "categories": sorted(str(name) for name, _ in ranked[:MAX_CATEGORIES])}
    x = _numbers(values)
    x = x[np.isfinite(x)]
    spread = float(x.std()) if x.size else 0.0
    return {
        "column": column,
        "kind": "numeric",
        "median": float(np.median(x)) if x.size else 0.0,
        "mean": float(x.mean()) if x.size else 0.0,
        "std": spread if np.isfinite(spread) and spread > 0 else 1.0,
    }


def encoded_width(profile_spec: Spec) -> int:
    """P: the number of columns that `encode_profiles` gives; 0 without any profile column."""
    widths = [1 if s["kind"] == "numeric" else len(s["categories"]) + 1 for s in profile_spec]
    return sum(widths) + 1 if widths else 0


def encode_profiles(table: pd.DataFrame, profile_spec: Spec) -> npt.NDArray[np.float32]:
    """Encode the J rows of `table` to [J, P] float32, finite; ConfigError when it lacks a column of the spec."""
    lacking = [s["column"] for s in profile_spec if s["column"] not in table.columns]
    if lacking:
        raise ConfigError(f"profile columns {lacking} are not in the table; it has {list(table.columns)}")
    encoded_JP = np.zeros((len(table), encoded_width(profile_spec)), dtype=np.float32)
    if not profile_spec:
        return encoded_JP
    missing_J = np.ones(len(table), dtype=bool)
    start = 0
    for spec in profile_spec:
        values: pd.Series[Any] = table[str(spec["column"])]
        block = _encode_column(values, spec)
        encoded_JP[:, start : start + block.shape[1]] = block
        missing_J &= values.isna().to_numpy()
        start += block.shape[1]
    encoded_JP[:, -1] = missing_J
    return encoded_JP


def _encode_column(values: pd.Series[Any], spec: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """[J, 1] for a number, [J, categories + 1] for a category."""
    if spec["kind"] == "numeric":
        x = _numbers(values)
        x = np.where(np.isfinite(x), x, spec["median"])
        return np.asarray((x - spec["mean"]) / spec["std"], dtype=np.float32)[:, None]
    categories = spec["categories"]
    present = values.notna().to_numpy()
    code = pd.Index(categories, dtype=object).get_indexer(values.astype(str).to_numpy(dtype=object))
    code = np.where(code < 0, len(categories), code)
    one_hot = np.zeros((len(values), len(categories) + 1), dtype=np.float32)
    rows = np.flatnonzero(present)
    one_hot[rows, code[rows]] = 1.0
    return one_hot


def _numbers(values: pd.Series[Any]) -> npt.NDArray[np.float64]:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(numbers, dtype=np.float64)
