from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import catalogue, reference, write_bundle

from allocator import scoring
from allocator.bundle import LoadedModel, load_bundle
from allocator.scoring import Candidate, option_values


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    write_bundle(tmp_path / "bundle")
    return load_bundle(tmp_path / "bundle")


def candidate(options: list[int], history: list[tuple[int, float]], profile: dict[str, Any] | None = None) -> Candidate:
    return Candidate(user_id=1, profile=profile, history=history, options=[(item, 1) for item in options])


def by_hand(option: int, history: list[tuple[int, float]], profile_P: list[float]) -> float:
    """One journey without padding: history and option in one row, the option last at gap 0."""
    items = np.array([item for item, _ in history] + [option]) - 100
    known = catalogue()
    rows = reference(
        cluster_BL=known["cluster_index"][items][None],
        content_BLD=known["content"][items][None],
        gap_hours_BL=np.array([[gap for _, gap in history] + [0.0]], np.float32),
        mask_BL=np.ones((1, len(items)), np.float32),
        profile_BP=np.array([profile_P], np.float32),
    )
    return float(rows["delta_BL"][0, -1])


def test_the_option_is_the_last_touchpoint_of_each_journey(model: LoadedModel) -> None:
    """Journeys of other lengths share a batch. Age 40 is (40-32)/8 = 1; 'fr' the second of (de, fr, other)."""
    histories: list[list[tuple[int, float]]] = [[(101, 30.0), (104, 2.5)], [], [(108, 9.0), (109, 8.0), (101, 1.0)]]
    profiles = [{"age": 40, "country": "fr"}, None, {"age": 24, "country": "it"}]
    encoded = [[1.0, 0, 1, 0, 0], [-0.25, 0, 0, 0, 1], [-1.0, 0, 0, 1, 0]]
    options = [[100, 103], [105], [110, 111, 102]]
    users = [candidate(*user) for user in zip(options, histories, profiles, strict=True)]
    expected = [by_hand(option, histories[u], encoded[u]) for u, offered in enumerate(options) for option in offered]
    np.testing.assert_allclose(option_values(model, users, max_touches=64), expected, atol=1e-6)


def test_batches_do_not_change_the_values(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [candidate([100 + u % 12, 100 + (u + 1) % 12], [(105, float(g)) for g in range(u % 4)]) for u in range(9)]
    whole = option_values(model, users, max_touches=64)
    monkeypatch.setattr(scoring, "BATCH_OPTIONS", 5)
    np.testing.assert_allclose(option_values(model, users, max_touches=64), whole, atol=1e-6)


def test_only_the_latest_history_counts_in_any_order(model: LoadedModel) -> None:
    late = [(104, 5.0), (108, 1.0)]
    early = [(101, 50.0), (102, 40.0)]
    expected = option_values(model, [candidate([100], late)], max_touches=64)
    shuffled = [early[1], late[1], early[0], late[0]]
    np.testing.assert_allclose(option_values(model, [candidate([100], shuffled)], max_touches=3), expected, atol=1e-7)
    alone = option_values(model, [candidate([100], [])], max_touches=64)
    np.testing.assert_allclose(option_values(model, [candidate([100], late)], max_touches=1), alone, atol=1e-7)


def test_whole_numbers_stay_whole_next_to_missing_ones(tmp_path: Path) -> None:
    """A categorical profile of integers: beside a user without a value, 3 must not turn into '3.0'."""
    write_bundle(tmp_path / "bundle")
    model = load_bundle(tmp_path / "bundle")
    model.profile_spec[1]["categories"] = ["3", "4"]
    users = [candidate([100], [], {"country": 3}), candidate([100], [], {"age": 32})]
    encoded = [[-0.25, 1, 0, 0, 0], [0.0, 0, 0, 0, 0]]
    expected = [by_hand(100, [], profile) for profile in encoded]
    np.testing.assert_allclose(option_values(model, users, max_touches=64), expected, atol=1e-6)


def test_a_model_without_profiles_takes_any(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", profile=False)
    model = load_bundle(tmp_path / "bundle")
    value = option_values(model, [candidate([100], [(101, 2.0)], {"age": 5})], max_touches=64)
    np.testing.assert_allclose(value, [by_hand(100, [(101, 2.0)], [0.0])], atol=1e-6)
