"""The training table as arrays, and batches gathered from it.

Touches are held once, flat; a journey is a range into them (offset, length), and content is looked up in the item
table by position. A batch is a gather, so an epoch copies nothing but what it trains on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.encoding import encode_profiles, encoded_width
from features.errors import TrainingFailed
from features.files import read_json
from features.journey_files import TRAINING_TABLE, part_files, read_parts
from model.batch import Evidence, JourneyBatch, Treatment
from model.feed_columns import Arrays, Positions, floats, microseconds, read_columns, stream
from model.front_door import Sizes

HOUR_US = 3_600_000_000
KEYS = ("journey_id", "user_id", "t_obs", "split", "label")


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Known items, sorted by item_id."""

    item_id_I: NDArray[np.int64]
    author_id_I: NDArray[np.int64]
    cluster_index_I: NDArray[np.int64]
    content_ID: NDArray[np.float32]

    @cached_property
    def _positions(self) -> Positions:
        return Positions(self.item_id_I)

    def position(self, item_id_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each item; the last row for unknown ones."""
        return self._positions.of(item_id_N)


def rows(values_N: Tensor, position_BL: Tensor) -> Tensor:
    """values_N[position_BL], several times as fast: index_select copies row by row. [N, ..], [B, L] -> [B, L, ..]."""
    return values_N.index_select(0, position_BL.reshape(-1)).view(*position_BL.shape, *values_N.shape[1:])


@dataclass(frozen=True, kw_only=True)
class TouchEvidence:
    """`batch.Evidence` of a whole table."""

    mediator_NK: Tensor
    residual_NK: Tensor
    observed_N: Tensor
    history_JK: Tensor
    earlier_J: Tensor

    def of(self, row_B: Tensor, position_BL: Tensor, mask_BL: Tensor) -> Evidence:
        return Evidence(
            mediator_BLK=rows(self.mediator_NK, position_BL).mul_(mask_BL[..., None]),
            residual_BLK=rows(self.residual_NK, position_BL).mul_(mask_BL[..., None]),
            observed_BL=rows(self.observed_N, position_BL).mul_(mask_BL),
            history_BK=self.history_JK[row_B],
            earlier_B=self.earlier_J[row_B],
        )


@dataclass(frozen=True, kw_only=True)
class JourneyTable:
    """J journeys over N touches."""

    schema: dict[str, Any]
    keys: pd.DataFrame
    """KEYS; one row a journey."""
    offset_J: Tensor
    length_J: Tensor
    t_obs_J: Tensor
    profile_JP: Tensor
    control_JC: Tensor
    label_J: Tensor
    catalogue: Catalogue
    content_ID: Tensor
    """The catalogue's content, then a row of zeros for items without any."""
    touch_ts_N: Tensor
    touch_item_N: Tensor
    """Row of the catalogue."""
    touch_cluster_N: Tensor
    response_NR: Tensor
    touch_randomised_N: Tensor
    """True where the exposure was drawn at random."""
    first_touch_J: Tensor
    """Position of the first touch of the journey's user."""
    upload_J: Tensor
    """Row of upload_UD, the last one where no embedded upload labels the journey."""
    upload_UD: Tensor
    """Embeddings of the labels' uploads, then one row of NaN."""
    evidence: TouchEvidence | None = None
    """What a fitted index and prior say of every touch (model/evidence.py)."""

    @property
    def sizes(self) -> Sizes:
        return Sizes(
            clusters=len(self.schema["clusters"]),
            content_dim=self.content_ID.shape[1],
            profile_dim=self.profile_JP.shape[1],
            control_dim=self.control_JC.shape[1],
            responses=tuple(self.schema["responses"]),
        )

    def split(self, name: str) -> Tensor:
        """Row numbers of one split."""
        return torch.from_numpy(np.flatnonzero((self.keys["split"] == name).to_numpy()))

    def last_touch(self, row_B: Tensor) -> Tensor:
        """Position in the touch table of each journey's last touch. [B] -> [B]."""
        return self.offset_J[row_B] + self.length_J[row_B] - 1

    def positions(self, row_B: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in the touch table and mask of the journeys' touches, padded at the end. [B, L] twice."""
        length_B = self.length_J[row_B]
        step_L = torch.arange(int(length_B.max()) if len(row_B) else 0)
        mask_BL = step_L < length_B[:, None]
        return (self.offset_J[row_B][:, None] + step_L).mul_(mask_BL), mask_BL

    def batch(self, row_B: Tensor) -> JourneyBatch:
        """What is gathered is masked in place: a second copy costs as much as the first."""
        position_BL, mask_BL = self.positions(row_B)
        real_BL = mask_BL.float()
        gap_us_BL = self.t_obs_J[row_B][:, None] - rows(self.touch_ts_N, position_BL)
        return JourneyBatch(
            treatment=Treatment(
                cluster_BL=rows(self.touch_cluster_N, position_BL).mul_(mask_BL),
                content_BLD=rows(self.content_ID, rows(self.touch_item_N, position_BL)).mul_(real_BL[..., None]),
                gap_hours_BL=(gap_us_BL / HOUR_US).float().mul_(real_BL),
                mask_BL=real_BL,
            ),
            response_BLR=rows(self.response_NR, position_BL).masked_fill_(~mask_BL[..., None], 0),
            profile_BP=self.profile_JP[row_B],
            control_BC=self.control_JC[row_B],
            label_B=self.label_J[row_B],
            upload_BD=self.upload_UD[self.upload_J[row_B]],
            evidence=self.evidence.of(row_B, position_BL, mask_BL) if self.evidence else None,
        )


def load_journeys(
    journeys_dir: Path, data_dir: Path, schema: dict[str, Any] | None = None, cache: Path | None = None
) -> JourneyTable:
    """Read journeys/ and data/; `schema` overrides the data's own (a champion scores by the schema it was fitted on).

    `cache` is a folder for memory maps of touches and items (feed_columns.py), named by what is read; None = memory.
    Raises TrainingFailed where the tables hold no journey.
    """
    max_touches = read_json(journeys_dir / "manifest.json")["config"]["max_touches"]
    schema = schema or read_json(data_dir / "schema.json") | {"max_touches": max_touches}
    journeys = _read_journeys(part_files(data_dir, TRAINING_TABLE), schema)
    columns = read_columns(journeys_dir, data_dir, schema, cache)
    content_ID, user_id_U = columns["content_ID"], columns.pop("user_id_U")
    start_U = np.append(columns.pop("user_start_U"), len(columns["touch_ts_N"]))
    first_touch_J = start_U[np.searchsorted(user_id_U, journeys.keys["user_id"].to_numpy())]
    upload_J, upload_UD = _load_uploads(data_dir, len(journeys.keys), content_ID.shape[1])
    catalogue = Catalogue(
        item_id_I=columns.pop("item_id_I"),
        author_id_I=columns.pop("author_id_I"),
        cluster_index_I=columns.pop("cluster_index_I"),
        content_ID=content_ID[:-1],
    )
    arrays = journeys.arrays | columns
    arrays |= {"first_touch_J": first_touch_J, "upload_J": upload_J, "upload_UD": upload_UD}
    tensors: dict[str, Any] = {name: torch.from_numpy(values) for name, values in arrays.items()}
    return JourneyTable(schema=schema, keys=journeys.keys, catalogue=catalogue, **tensors)


@dataclass(frozen=True, kw_only=True)
class _Journeys:
    keys: pd.DataFrame
    arrays: Arrays
    """By the names of JourneyTable."""


def _read_journeys(paths: Sequence[Path], schema: dict[str, Any]) -> _Journeys:
    rows, profile, controls = (
        sum(pq.read_metadata(path).num_rows for path in paths),
        schema["profile"],
        schema["controls"],
    )
    if not rows:
        raise TrainingFailed(f"{paths[0].parent} holds no journey: nothing to train on")
    width = encoded_width(profile) or 1  # without profiles one column of zeros, so that shapes stay the same
    arrays = {name: np.empty(rows, np.int64) for name in ("offset_J", "length_J", "t_obs_J")}
    arrays["label_J"] = np.empty(rows, np.float32)
    arrays["profile_JP"] = np.zeros((rows, width), np.float32)
    arrays["control_JC"] = np.empty((rows, len(controls)), np.float32)
    profiled = [str(spec["column"]) for spec in profile]
    columns = [*KEYS, "offset", "length", *profiled, *controls]
    keys = []
    for place, batch in stream(paths, list(dict.fromkeys(columns))):
        keys.append(batch.select(KEYS).to_pandas())
        for name in ("offset", "length", "label"):
            arrays[f"{name}_J"][place] = batch[name].to_numpy()
        arrays["t_obs_J"][place] = microseconds(batch["t_obs"])
        if profile:
            arrays["profile_JP"][place] = encode_profiles(batch.select(profiled).to_pandas(), profile)
        for column, name in enumerate(controls):
            control_B = floats(batch[name])
            arrays["control_JC"][place, column] = np.where(np.isnan(control_B), 0, control_B)
    return _Journeys(keys=pd.concat(keys, ignore_index=True), arrays=arrays)


def _load_uploads(data_dir: Path, journeys: int, content_dim: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Row of each journey's upload [J], and embeddings by row with NaN in the last [U + 1, D]."""
    nothing_1D = np.full((1, content_dim), np.nan, np.float32)
    if not (data_dir / "uploads.parquet").is_file():
        return np.zeros(journeys, np.int64), nothing_1D
    upload_id = read_parts(data_dir, TRAINING_TABLE, ["upload_id"])["upload_id"]
    uploads = pq.read_table(data_dir / "uploads.parquet")
    embedding_UD = uploads["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, content_dim)
    row_J = pc.fill_null(pc.index_in(upload_id, value_set=uploads["upload_id"]), len(embedding_UD))
    return row_J.to_numpy().astype(np.int64), np.concatenate([embedding_UD, nothing_1D])
