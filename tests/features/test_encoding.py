"""The profile encoding, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.encoding import MAX_CATEGORIES, encode_profiles, encoded_width, fit_column
from features.errors import ConfigError


def test_numbers_are_imputed_then_standardised() -> None:
    """Fitted on 1, 1, 4, 6 (mean 3, median 2.5, std √4.5): 6 -> 3/√4.5, missing -> (2.5 − 3)/√4.5."""
    spec = [fit_column("a", pd.Series([1, 1, 4, 6, np.nan, np.inf]), "numeric")]
    encoded = encode_profiles(pd.DataFrame({"a": [6.0, np.nan, -np.inf]}), spec)
    std = np.sqrt(4.5)
    np.testing.assert_allclose(encoded, [[3 / std, 0], [-0.5 / std, 1], [-0.5 / std, 0]], rtol=1e-6)
    assert encoded.dtype == np.float32


def test_categories_are_one_hot_with_the_rest_as_other() -> None:
    spec = [fit_column("city", pd.Series(["b", "a", "b", None, "c", "a"]), "categorical")]
    assert spec[0]["categories"] == ["a", "b", "c"]
    encoded = encode_profiles(pd.DataFrame({"city": ["b", "zz", None]}), spec)
    assert encoded.tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]


def test_at_most_so_many_categories_the_frequent_ones_in_order_of_their_names() -> None:
    values = [f"c{i:02d}" for i in range(30) for _ in range(i + 1)]
    spec = fit_column("c", pd.Series(values), "categorical")
    assert spec["categories"] == [f"c{i:02d}" for i in range(30 - MAX_CATEGORIES, 30)]
    assert encoded_width([spec]) == MAX_CATEGORIES + 2


def test_dictionary_columns_fit_alike() -> None:
    values = pd.Series(["b", "a", "b", None])
    assert fit_column("c", values.astype("category"), "categorical") == fit_column("c", values, "categorical")


def test_missing_flag_needs_every_column_missing() -> None:
    spec = [
        fit_column("a", pd.Series([0.0, 2.0]), "numeric"),
        fit_column("c", pd.Series(["x"]), "categorical"),
    ]
    table = pd.DataFrame({"a": [1.0, np.nan, np.nan], "c": ["x", "x", None]})
    assert encode_profiles(table, spec)[:, -1].tolist() == [0, 0, 1]


def test_nullable_integers_and_constants() -> None:
    spec = [fit_column("a", pd.Series([5, 5, None], dtype="Int64"), "numeric")]
    assert spec[0] == {"column": "a", "kind": "numeric", "median": 5.0, "mean": 5.0, "std": 1.0}
    table = pd.DataFrame({"a": pd.Series([7, None], dtype="Int64")})
    assert encode_profiles(table, spec).tolist() == [[2, 0], [0, 1]]


def test_nothing_to_fit_on_still_encodes() -> None:
    spec = [fit_column("a", pd.Series([None, None], dtype=object), "numeric"),
            fit_column("c", pd.Series([None], dtype=object), "categorical")]  # fmt: skip
    encoded = encode_profiles(pd.DataFrame({"a": [3.0], "c": ["x"]}), spec)
    assert encoded.tolist() == [[3, 1, 0]]


def test_no_profile_is_no_column() -> None:
    assert encoded_width([]) == 0
    assert encode_profiles(pd.DataFrame({"other": [1, 2]}), []).shape == (2, 0)


def test_a_lacking_column_is_named() -> None:
    spec = [fit_column("age", pd.Series([1.0]), "numeric")]
    with pytest.raises(ConfigError, match=r"profile columns \['age'\] are not in the table"):
        encode_profiles(pd.DataFrame({"city": ["x"]}), spec)
