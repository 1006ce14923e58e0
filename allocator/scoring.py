"""What each option is worth to its user: the removal effect of the option, shown now, after the user's history.

    value(u, k) = Δ_L = P(Y | do(h_1, …, h_{L−1}, k), x_u) − P(Y | do(h_1, …, h_{L−1}), x_u)

one row of score.onnx an option: the history (oldest first, the latest max_touches − 1 of it, as the model's journeys
keep max_touches) and the option as last touchpoint, at gap 0. A history item that the catalogue lacks (published after
the training) counts as unknown content: no cluster, zero embedding. An option must be in the catalogue.
Shapes: B options scored together, L touchpoints of the longest, D content, P profile.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from allocator.bundle import LoadedModel, profile_width
from allocator.errors import UnknownInput
from features.encoding import encode_profiles

logger = logging.getLogger(__name__)

ProfileValue = float | str | bool | None
PROFILE_PREFIX = "profile__"
BATCH_OPTIONS = 2048
"""Options scored in one run of the graph: bounds memory, B·L·D floats."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A user, what they have seen, and what they could be shown."""

    user_id: int
    profile: Mapping[str, ProfileValue] | None
    """Column -> value; None = no profile (imputed and flagged)."""
    history: Sequence[tuple[int, float]]
    """(item_id, hours ago), any order."""
    options: Sequence[tuple[int, int]]
    """(item_id, cost in units)."""


def option_values(model: LoadedModel, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """[N] value of every option, in the order of users and of their options, on the probability scale.

    Raises UnknownInput naming options or profile columns that the model cannot take; AllocatorError when the graph
    fails.
    """
    _check_options(model, candidates)
    touches = [_latest(user.history, model.max_touches - 1) for user in candidates]
    _log_unknown_history(model, touches)
    profile_UP = _profiles(model, candidates)
    batches: list[NDArray[np.float64]] = []
    for first, last in _batches([len(user.options) for user in candidates]):
        batches.append(_batch(model, candidates[first:last], touches[first:last], profile_UP[first:last]))
    return np.concatenate(batches) if batches else np.empty(0)


def _latest(history: Sequence[tuple[int, float]], keep: int) -> list[tuple[int, float]]:
    """The latest `keep` touchpoints, oldest first; equal gaps by item, as in the journeys."""
    return sorted(history, key=lambda touch: (touch[1], -touch[0]))[:keep][::-1]


def _batch(
    model: LoadedModel,
    candidates: Sequence[Candidate],
    touches: Sequence[Sequence[tuple[int, float]]],
    profile_UP: NDArray[np.float32],
) -> NDArray[np.float64]:
    counts = np.array([len(user.options) for user in candidates])
    U, L = len(candidates), max(len(seen) for seen in touches) + 1
    row_UL = np.zeros((U, L), np.int64)
    gap_UL = np.zeros((U, L), np.float32)
    mask_UL = np.zeros((U, L), np.float32)
    for u, seen in enumerate(touches):
        if seen:
            items, gaps = zip(*seen, strict=True)
            row_UL[u, : len(seen)] = model.catalogue.rows(np.array(items, np.int64))
            gap_UL[u, : len(seen)] = gaps
        mask_UL[u, : len(seen) + 1] = 1
    user_B = np.repeat(np.arange(U), counts)
    place_B = np.array([len(seen) for seen in touches])[user_B]
    option_B = model.catalogue.rows(np.array([item for user in candidates for item, _ in user.options], np.int64))
    row_BL, mask_BL, B = row_UL[user_B], mask_UL[user_B], np.arange(len(user_B))
    row_BL[B, place_B] = option_B
    scores = model.score(
        cluster_BL=model.catalogue.cluster_index[row_BL],
        content_BLD=model.catalogue.content[row_BL] * mask_BL[:, :, None],
        gap_hours_BL=gap_UL[user_B],
        mask_BL=mask_BL,
        profile_BP=profile_UP[user_B],
    )
    value_B: NDArray[np.float64] = scores.delta_BL[B, place_B].astype(np.float64)
    return value_B


def _batches(counts: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of users whose options together come to at most BATCH_OPTIONS, at least one user each."""
    ranges: list[tuple[int, int]] = []
    first = total = 0
    for user, count in enumerate(counts):
        if user > first and total + count > BATCH_OPTIONS:
            ranges.append((first, user))
            first, total = user, 0
        total += count
    return [*ranges, (first, len(counts))] if counts else []


def _profiles(model: LoadedModel, candidates: Sequence[Candidate]) -> NDArray[np.float32]:
    """[U,P]; zeros [U,1] for a model that uses no profile, whatever the callers send."""
    if not model.profile_spec:
        return np.zeros((len(candidates), profile_width([])), np.float32)
    columns = [str(spec["column"]) for spec in model.profile_spec]
    _check_profiles(model, candidates)
    profiles = [user.profile or {} for user in candidates]
    values = {column: [profile.get(_asked(column)) for profile in profiles] for column in columns}
    return encode_profiles(pd.DataFrame(values, dtype=object), model.profile_spec)


def _asked(column: str) -> str:
    """The name that callers give to a profile column of the training table."""
    return column.removeprefix(PROFILE_PREFIX)


def _check_profiles(model: LoadedModel, candidates: Sequence[Candidate]) -> None:
    kinds = {_asked(str(spec["column"])): spec["kind"] for spec in model.profile_spec}
    for user in candidates:
        for column, value in (user.profile or {}).items():
            if column not in kinds:
                has = ", ".join(sorted(kinds))
                raise UnknownInput(f"user {user.user_id}: the model has no profile column '{column}'; it has {has}")
            if kinds[column] == "numeric" and isinstance(value, str):
                raise UnknownInput(f"user {user.user_id}: profile column '{column}' is a number, not text")


def _unknown(model: LoadedModel, items: set[int]) -> list[int]:
    ids = np.array(sorted(items), np.int64)
    unknown: list[int] = ids[model.catalogue.rows(ids) < 0].tolist()
    return unknown


def _log_unknown_history(model: LoadedModel, touches: Sequence[Sequence[tuple[int, float]]]) -> None:
    unknown = len(_unknown(model, {item for seen in touches for item, _ in seen}))
    if unknown:
        logger.info("%d items of the histories are not in the catalogue, they count as unknown content", unknown)


def _check_options(model: LoadedModel, candidates: Sequence[Candidate]) -> None:
    unknown = _unknown(model, {item for user in candidates for item, _ in user.options})
    if unknown:
        shown = ", ".join(map(str, unknown[:10])) + (", …" if len(unknown) > 10 else "")
        raise UnknownInput(
            f"the options name {len(unknown)} item{'s' if len(unknown) > 1 else ''} unknown to the model: {shown}. "
            "Leave them out, or push a model whose catalogue holds them"
        )
