"""The training table as arrays, and batches gathered from it.

Touches are held once, flat; a journey is a range into them (offset, length), and content is looked up in the item
table by position. A batch is a gather, so an epoch copies nothing but what it trains on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from features.encoding import encode_profiles
from features.errors import TrainingFailed
from features.files import read_json
from model.batch import Evidence, JourneyBatch, Treatment
from model.front_door import Sizes

HOUR_US = 3_600_000_000


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Known items, sorted by item_id, with one all-zero row at the end for items without content."""

    item_id_I: NDArray[np.int64]
    author_id_I: NDArray[np.int64]
    cluster_index_I: NDArray[np.int64]
    content_ID: NDArray[np.float32]

    def position(self, item_id_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each item; the last row for unknown ones."""
        row_N = np.searchsorted(self.item_id_I, item_id_N).clip(max=len(self.item_id_I) - 1)
        return np.where(self.item_id_I[row_N] == item_id_N, row_N, len(self.item_id_I))


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
            mediator_BLK=self.mediator_NK[position_BL] * mask_BL[..., None],
            residual_BLK=self.residual_NK[position_BL] * mask_BL[..., None],
            observed_BL=self.observed_N[position_BL] * mask_BL,
            history_BK=self.history_JK[row_B],
            earlier_B=self.earlier_J[row_B],
        )


@dataclass(frozen=True, kw_only=True)
class JourneyTable:
    """J journeys over N touches."""

    schema: dict[str, Any]
    keys: pd.DataFrame
    """journey_id, user_id, t_obs, split, label; one row a journey."""
    offset_J: Tensor
    length_J: Tensor
    t_obs_J: Tensor
    profile_JP: Tensor
    control_JC: Tensor
    label_J: Tensor
    catalogue: Catalogue
    content_ID: Tensor
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
        return torch.where(mask_BL, self.offset_J[row_B][:, None] + step_L, 0), mask_BL

    def batch(self, row_B: Tensor) -> JourneyBatch:
        position_BL, mask_BL = self.positions(row_B)
        gap_us_BL = self.t_obs_J[row_B][:, None] - self.touch_ts_N[position_BL]
        return JourneyBatch(
            treatment=Treatment(
                cluster_BL=self.touch_cluster_N[position_BL] * mask_BL,
                content_BLD=self.content_ID[self.touch_item_N[position_BL]] * mask_BL[..., None],
                gap_hours_BL=(gap_us_BL / HOUR_US).float() * mask_BL,
                mask_BL=mask_BL.float(),
            ),
            response_BLR=torch.where(mask_BL[..., None], self.response_NR[position_BL], 0),
            profile_BP=self.profile_JP[row_B],
            control_BC=self.control_JC[row_B],
            label_B=self.label_J[row_B],
            upload_BD=self.upload_UD[self.upload_J[row_B]],
            evidence=self.evidence.of(row_B, position_BL, mask_BL) if self.evidence else None,
        )


def load_journeys(journeys_dir: Path, data_dir: Path, schema: dict[str, Any] | None = None) -> JourneyTable:
    """Read journeys/ and data/; `schema` overrides the data's own (a champion scores by the schema it was fitted on).

    Raises TrainingFailed where the tables hold no journey.
    """
    max_touches = read_json(journeys_dir / "manifest.json")["config"]["max_touches"]
    schema = schema or read_json(data_dir / "schema.json") | {"max_touches": max_touches}
    table = pq.read_table(data_dir / "training_table.parquet").to_pandas()
    if table.empty:
        raise TrainingFailed(f"{data_dir / 'training_table.parquet'} holds no journey: nothing to train on")
    clusters = np.asarray(schema["clusters"], dtype=np.int64)
    catalogue = _load_catalogue(data_dir, clusters, schema["embedding_dim"])
    touches = pq.read_table(journeys_dir / "touches.parquet")
    content_ID = np.concatenate([catalogue.content_ID, np.zeros((1, catalogue.content_ID.shape[1]), np.float32)])
    upload_J, upload_UD = _load_uploads(data_dir, content_ID.shape[1])
    first_touch_J = np.searchsorted(touches["user_id"].to_numpy(), table["user_id"].to_numpy())
    return JourneyTable(
        schema=schema,
        keys=table[["journey_id", "user_id", "t_obs", "split", "label"]],
        offset_J=torch.tensor(table["offset"].to_numpy(np.int64)),
        length_J=torch.tensor(table["length"].to_numpy(np.int64)),
        t_obs_J=torch.tensor(_microseconds(table["t_obs"])),
        profile_JP=torch.tensor(_profiles(table, schema["profile"])),
        control_JC=torch.tensor(table[schema["controls"]].fillna(0).to_numpy(np.float32)),
        label_J=torch.tensor(table["label"].to_numpy(np.float32)),
        catalogue=catalogue,
        content_ID=torch.tensor(content_ID),
        touch_ts_N=torch.tensor(touches["ts"].cast("int64").to_numpy()),
        touch_item_N=torch.tensor(catalogue.position(touches["item_id"].to_numpy())),
        touch_cluster_N=torch.tensor(cluster_index(touches["cluster_id"].to_numpy(), clusters)),
        response_NR=torch.tensor(_responses(touches, schema["responses"])),
        touch_randomised_N=torch.tensor(_randomised(touches)),
        first_touch_J=torch.tensor(first_touch_J),
        upload_J=torch.tensor(upload_J),
        upload_UD=torch.tensor(upload_UD),
    )


def cluster_index(cluster_id_N: NDArray[Any], clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position in the schema's clusters; len(clusters) for unknown ones."""
    index_N = np.searchsorted(clusters, cluster_id_N).clip(max=max(len(clusters) - 1, 0))
    return np.where(clusters[index_N] == cluster_id_N, index_N, len(clusters)).astype(np.int64)


def _load_catalogue(data_dir: Path, clusters: NDArray[np.int64], embedding_dim: int) -> Catalogue:
    items = pq.read_table(data_dir / "items.parquet")
    content_ID = np.zeros((items.num_rows, max(embedding_dim, 1)), np.float32)
    if embedding_dim and "embedding" in items.column_names:
        embedding = items["embedding"].combine_chunks()
        known_I = embedding.is_valid().to_numpy(zero_copy_only=False)
        content_ID[known_I] = embedding.drop_null().flatten().to_numpy().reshape(-1, embedding_dim)
    return Catalogue(
        item_id_I=items["item_id"].to_numpy(),
        author_id_I=items["author_id"].to_numpy(),
        cluster_index_I=cluster_index(items["cluster_id"].to_numpy(), clusters),
        content_ID=content_ID,
    )


def _load_uploads(data_dir: Path, content_dim: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Row of each journey's upload [J], and embeddings by row with NaN in the last [U + 1, D]."""
    upload_id = pq.read_table(data_dir / "training_table.parquet", columns=["upload_id"])["upload_id"]
    nothing_1D = np.full((1, content_dim), np.nan, np.float32)
    if not (data_dir / "uploads.parquet").is_file():
        return np.zeros(len(upload_id), np.int64), nothing_1D
    uploads = pq.read_table(data_dir / "uploads.parquet")
    embedding_UD = uploads["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, content_dim)
    row_J = pc.fill_null(pc.index_in(upload_id, value_set=uploads["upload_id"]), len(embedding_UD))
    return row_J.to_numpy().astype(np.int64), np.concatenate([embedding_UD, nothing_1D])


def _profiles(table: pd.DataFrame, spec: list[dict[str, Any]]) -> NDArray[np.float32]:
    """Encoded profiles, or one column of zeros where the logs have none, so that shapes stay the same."""
    return encode_profiles(table, spec) if spec else np.zeros((len(table), 1), np.float32)


def _responses(touches: Any, responses: list[str]) -> NDArray[np.float32]:
    """Responses as numbers, NaN where nothing was observed."""
    columns = [touches[name].cast("float32").to_numpy() for name in responses]
    return np.stack(columns, 1) if columns else np.zeros((touches.num_rows, 0), np.float32)


def _randomised(touches: Any) -> NDArray[np.bool_]:
    """Where the logs mark an exposure as random; nowhere if they do not say."""
    if "randomised" not in touches.column_names:
        return np.zeros(touches.num_rows, bool)
    return np.asarray(touches["randomised"].fill_null(False).to_numpy(), dtype=bool)


def _microseconds(column: pd.Series[Any]) -> NDArray[np.int64]:
    naive: pd.Series[Any] = column.dt.tz_localize(None).astype("datetime64[us]").astype("int64")
    return np.asarray(naive, dtype=np.int64)


def batches_per_epoch(journeys: int, batch_size: int, world_size: int) -> int:
    """Full batches that every rank gets; at least one."""
    return max(journeys // (batch_size * world_size), 1)


class EpochBatches(Sampler[list[int]]):
    """Fit batches: row numbers whose order is a pure function of (seed, epoch); ranks get disjoint batches.

    Journeys of like length go together (sorted within windows of shuffled rows), since a batch is padded to its
    longest; the batches are shuffled again. The tail that fills no batch on every rank waits for another epoch.
    """

    WINDOW_BATCHES = 64

    def __init__(
        self, row_J: Tensor, length_J: Tensor, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.row_J, self.length_J, self.batch_size, self.seed = row_J, length_J, batch_size, seed
        self.rank, self.world_size, self.epoch = rank, world_size, 0
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return batches_per_epoch(len(self.row_J), self.batch_size, self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        used = len(self) * self.world_size * self.batch_size
        shuffled = torch.randperm(len(self.row_J), generator=generator)
        shuffled = shuffled.repeat(-(-used // len(shuffled)))[:used]
        windows = torch.split(shuffled, self.WINDOW_BATCHES * self.batch_size)
        alike = torch.cat([window[self.length_J[window].argsort(stable=True)] for window in windows])
        batches = self.row_J[alike].reshape(-1, self.batch_size)
        order = torch.randperm(len(batches), generator=generator)
        for batch in batches[order[self.rank :: self.world_size]]:
            yield batch.tolist()


def selection_batches(
    row_J: Tensor, length_J: Tensor, *, batch_size: int, rank: int, world_size: int
) -> list[list[int]]:
    """Every row once, longest last; where the batches do not divide over the ranks, some get a batch again."""
    batches = [batch.tolist() for batch in torch.split(row_J[length_J.argsort(stable=True)], batch_size)]
    each = -(-len(batches) // world_size)
    return (batches * world_size)[: each * world_size][rank::world_size]


class _Rows(Dataset[JourneyBatch]):
    """A dataset that answers a whole batch at once."""

    def __init__(self, table: JourneyTable) -> None:
        self.table = table

    def __getitems__(self, rows: list[int]) -> JourneyBatch:
        return self.table.batch(torch.tensor(rows))


class JourneyData(lightning.LightningDataModule):
    """Fit and selection batches for Lightning; sharding over ranks is done here, not by Lightning's sampler."""

    def __init__(self, table: JourneyTable, *, batch_size: int, seed: int) -> None:
        super().__init__()
        self.table, self.batch_size, self.seed = table, batch_size, seed

    def train_dataloader(self) -> DataLoader[JourneyBatch]:
        row_J = self.table.split("fit")
        rank, world_size = self._place()
        return self._loader(
            EpochBatches(
                row_J, self.table.length_J[row_J], batch_size=self.batch_size, seed=self.seed,
                rank=rank, world_size=world_size,
            )
        )  # fmt: skip

    def val_dataloader(self) -> DataLoader[JourneyBatch]:
        row_J = self.table.split("selection")
        rank, world_size = self._place()
        length_J = self.table.length_J[row_J]
        return self._loader(
            selection_batches(row_J, length_J, batch_size=self.batch_size, rank=rank, world_size=world_size)
        )

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, batches: Iterable[list[int]]) -> DataLoader[JourneyBatch]:
        return DataLoader(_Rows(self.table), batch_sampler=batches, collate_fn=lambda batch: batch)

    def transfer_batch_to_device(self, batch: JourneyBatch, device: torch.device, dataloader_idx: int) -> JourneyBatch:  # noqa: ARG002
        return batch.to(device)
