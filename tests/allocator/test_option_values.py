from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import EFFECT, WEIGHT, catalogue, reference, write_bundle

from allocator import scoring
from allocator.bundle import LoadedModel, load_bundle
from allocator.errors import UnknownInput
from allocator.scoring import Candidate, option_values

UNKNOWN_HELPS = np.array([*EFFECT[:-1], 1.2], np.float32)


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
    np.testing.assert_allclose(option_values(model, users), expected, atol=1e-6)


def test_batches_do_not_change_the_values(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [candidate([100 + u % 12, 100 + (u + 1) % 12], [(105, float(g)) for g in range(u % 4)]) for u in range(9)]
    whole = option_values(model, users)
    monkeypatch.setattr(scoring, "BATCH_OPTIONS", 5)
    np.testing.assert_allclose(option_values(model, users), whole, atol=1e-6)


def test_only_the_latest_history_counts_in_any_order(model: LoadedModel, tmp_path: Path) -> None:
    """The bundle says how many touchpoints a journey keeps, the option among them; 64 when it does not say."""

    def keeping(max_touches: int) -> LoadedModel:
        write_bundle(tmp_path / f"keeps-{max_touches}", max_touches=max_touches)
        return load_bundle(tmp_path / f"keeps-{max_touches}")

    late = [(104, 5.0), (108, 1.0)]
    early = [(101, 50.0), (102, 40.0)]
    expected = option_values(model, [candidate([100], late)])
    shuffled = [early[1], late[1], early[0], late[0]]
    np.testing.assert_allclose(option_values(keeping(3), [candidate([100], shuffled)]), expected, atol=1e-7)
    alone = option_values(model, [candidate([100], [])])
    np.testing.assert_allclose(option_values(keeping(1), [candidate([100], late)]), alone, atol=1e-7)


def test_sixty_four_touches_are_kept_when_the_bundle_does_not_say(model: LoadedModel) -> None:
    recent = [(101 + n % 11, 1.0 + n) for n in range(63)]
    kept = option_values(model, [candidate([100], recent)])
    np.testing.assert_array_equal(option_values(model, [candidate([100], [*recent, (104, 64.0)])]), kept)
    assert (option_values(model, [candidate([100], recent[:62])]) != kept).all()


def test_a_history_item_that_the_catalogue_lacks_is_unknown_content(model: LoadedModel, tmp_path: Path) -> None:
    """With effect 1.2 of the unknown cluster: z = −1.5 + 0.3·(30 − 32)/8 + profile_missing·(−0.4), the history adds
    u = 1.2·exp(−12/24), and the option's value is σ(z + u + v) − σ(z + u)."""
    write_bundle(tmp_path / "unknown", effect=UNKNOWN_HELPS)
    helped = load_bundle(tmp_path / "unknown")
    known = catalogue()
    v = float(known["content"][3] @ WEIGHT) + float(EFFECT[known["cluster_index"][3]])
    z = -1.5 + 0.3 * (30 - 32) / 8 - 0.4
    u = 1.2 * np.exp(-0.5)
    expected = 1 / (1 + np.exp(-(z + u + v))) - 1 / (1 + np.exp(-(z + u)))
    np.testing.assert_allclose(option_values(helped, [candidate([103], [(7, 12.0)])]), [expected], atol=1e-6)
    between = [(101, 20.0), (2**62, 12.0), (104, 3.0)]
    without = [(101, 20.0), (104, 3.0)]  # the unknown cluster has effect 0 here, and unknown content is zero
    values = [option_values(model, [candidate([103], history)]) for history in (between, without)]
    np.testing.assert_allclose(values[0], values[1], atol=1e-7)


def test_an_option_that_the_catalogue_lacks_is_refused_by_name(model: LoadedModel) -> None:
    with pytest.raises(UnknownInput, match="the options name 2 items unknown to the model: 7, 112"):
        option_values(model, [candidate([100, 112], [(8, 1.0)]), candidate([7], [])])


def test_whole_numbers_stay_whole_next_to_missing_ones(tmp_path: Path) -> None:
    """A categorical profile of integers: beside a user without a value, 3 must not turn into '3.0'."""
    write_bundle(tmp_path / "bundle")
    model = load_bundle(tmp_path / "bundle")
    model.profile_spec[1]["categories"] = ["3", "4"]
    users = [candidate([100], [], {"country": 3}), candidate([100], [], {"age": 32})]
    encoded = [[-0.25, 1, 0, 0, 0], [0.0, 0, 0, 0, 0]]
    expected = [by_hand(100, [], profile) for profile in encoded]
    np.testing.assert_allclose(option_values(model, users), expected, atol=1e-6)


def test_a_model_without_profiles_takes_any(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", profile=False)
    model = load_bundle(tmp_path / "bundle")
    value = option_values(model, [candidate([100], [(101, 2.0)], {"age": 5})])
    np.testing.assert_allclose(value, [by_hand(100, [(101, 2.0)], [0.0])], atol=1e-6)
