"""What feeding a training costs: Parquet -> tensors -> batches, and Lightning's epoch beside a bare PyTorch loop.

    read     journeys of the tables a CPU-second, Parquet -> tensors (`load_journeys`)
    feed     journeys of the fit split a CPU-second, tensors -> batches, by the loader that training uses
    share    seconds of a bare loop / seconds of an epoch of `model.train.fit`: its throughput, 1 = nothing is lost

The bare loop takes the same steps of the same network: losses, backward, clipping, AdamW, one-cycle rate. It draws its
batches from the same tensors in memory; a second one finds them ready, so that feeding them costs nothing at all.
Everything runs with one thread; the loops take turns in every repetition, in an order that rotates.
"""

from __future__ import annotations

import copy
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from features.files import write_json
from features.journey_files import TRAINING_TABLE, part_file
from model.batch import JourneyBatch
from model.data import HOUR_US, JourneyTable, load_journeys
from model.feed import JourneyData
from model.module import FrontDoorModule
from model.settings import ModelConfig, TrainConfig
from model.train import fit, front_door_module

NETWORKS = {"smallest": ModelConfig(hidden=1, members=1), "default": ModelConfig()}
BATCH_SIZE = 512
RESPONSES = ("watch_ratio", "liked", "saved", "shared")
PROFILE, CONTROLS = 5, 6
ITEMS, CLUSTERS, CONTENT_DIM = 20_000, 40, 32
JOURNEYS_A_USER = 2

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A quantity over the repetitions."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median=statistics.median(values), least=min(values), most=max(values))


@dataclass(frozen=True, kw_only=True)
class EpochCost:
    """An epoch of one network by both loops."""

    network: str
    parameters: int
    steps: int
    lightning_cpu_s: Spread
    bare_cpu_s: Spread
    """The bare loop that draws its batches."""
    ready_cpu_s: Spread
    """The bare loop whose batches are ready."""
    cpu_share: Spread
    """Bare CPU-seconds / Lightning's, repetition by repetition."""
    wall_share: Spread
    """The same of elapsed seconds."""
    ready_cpu_share: Spread
    """CPU-seconds over ready batches / Lightning's."""
    ready_wall_share: Spread


@dataclass(frozen=True, kw_only=True)
class TrainingFeed:
    """One run of `measure`."""

    journeys: int
    touches: int
    """Of a journey."""
    batch_size: int
    repetitions: int
    read: Spread
    """Journeys a CPU-second, Parquet -> tensors."""
    feed: Spread
    """Journeys a CPU-second, tensors -> batches."""
    epochs: tuple[EpochCost, ...]


def measure(*, journeys: int = 32_768, touches: int = 32, repetitions: int = 5, seed: int = 7) -> TrainingFeed:
    """Draw journeys of `touches` touches each, write them as Parquet, and time all of it `repetitions` times."""
    with tempfile.TemporaryDirectory(prefix="alm-mta-bench-") as folder, _one_thread(), _quiet():
        write_tables(Path(folder), journeys=journeys, touches=touches, seed=seed)
        read, feed = [], []
        for _ in range(repetitions + 1):
            table, cost = _timed(lambda: load_journeys(Path(folder) / "journeys", Path(folder) / "data"))
            read.append(journeys / cost.cpu_s)
            loader = JourneyData(table, batch_size=BATCH_SIZE, seed=seed).train_dataloader()
            taken, cost = _timed(lambda: sum(len(batch.label_B) for batch in loader))  # noqa: B023
            feed.append(taken / cost.cpu_s)
        epochs = tuple(_compare(name, table, config, repetitions, seed) for name, config in NETWORKS.items())
    return TrainingFeed(
        journeys=journeys, touches=touches, batch_size=BATCH_SIZE, repetitions=repetitions,
        read=Spread.of(read[1:]), feed=Spread.of(feed[1:]), epochs=epochs,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Cost:
    cpu_s: float
    wall_s: float


def _timed(work: Callable[[], Result]) -> tuple[Result, _Cost]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, _Cost(cpu_s=time.process_time() - cpu, wall_s=time.perf_counter() - wall)


def _compare(name: str, table: JourneyTable, config: ModelConfig, repetitions: int, seed: int) -> EpochCost:
    train = TrainConfig(max_epochs=1, min_steps=1, batch_size=BATCH_SIZE, seed=seed, accelerator="cpu")
    module = front_door_module(table, config, train)
    data = JourneyData(table, batch_size=BATCH_SIZE, seed=seed)
    ready = list(data.train_dataloader())
    loops = {
        "bare": lambda: _bare_cost(copy.deepcopy(module), data.train_dataloader()),
        "ready": lambda: _bare_cost(copy.deepcopy(module), ready),
        "lightning": lambda: _lightning_cost(copy.deepcopy(module), table),
    }
    names, costs = list(loops), []
    for turn in range(repetitions + 1):
        costs.append({name: loops[name]() for name in names[turn % 3 :] + names[: turn % 3]})
    del costs[0]  # it warms up

    def cpu(loop: str) -> Spread:
        return Spread.of([cost[loop].cpu_s for cost in costs])

    def cpu_share(loop: str) -> Spread:
        return Spread.of([cost[loop].cpu_s / cost["lightning"].cpu_s for cost in costs])

    def wall_share(loop: str) -> Spread:
        return Spread.of([cost[loop].wall_s / cost["lightning"].wall_s for cost in costs])

    return EpochCost(
        network=name, parameters=sum(p.numel() for p in module.parameters() if p.requires_grad), steps=len(ready),
        lightning_cpu_s=cpu("lightning"), bare_cpu_s=cpu("bare"), ready_cpu_s=cpu("ready"),
        cpu_share=cpu_share("bare"), wall_share=wall_share("bare"),
        ready_cpu_share=cpu_share("ready"), ready_wall_share=wall_share("ready"),
    )  # fmt: skip


def _bare_cost(module: FrontDoorModule, batches: Iterable[JourneyBatch]) -> _Cost:
    return _timed(lambda: bare_epoch(module, batches))[1]


def bare_epoch(module: FrontDoorModule, batches: Iterable[JourneyBatch]) -> None:
    """One step a batch, as a PyTorch program without any framework takes them."""
    configured: dict[str, Any] = module.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    parameters = list(module.parameters())
    module.train()
    for batch in batches:
        losses, _ = module.losses(batch)
        optimizer.zero_grad()
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        scheduler.step()


def _lightning_cost(module: FrontDoorModule, table: JourneyTable) -> _Cost:
    """The fit's own epoch, from its start to its last step: the bare loop does not validate."""
    watch = _Watch()
    with tempfile.TemporaryDirectory(prefix="alm-mta-bench-") as folder:
        fit("epoch", module, table, Path(folder), [watch])
    return watch.cost


class _Watch(Callback):
    """Times the only epoch of a fit."""

    def on_train_epoch_start(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def on_train_batch_end(self, *_: object) -> None:
        self.cost = _Cost(cpu_s=time.process_time() - self.cpu, wall_s=time.perf_counter() - self.wall)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
            yield
    finally:
        logger.setLevel(level)


def write_tables(folder: Path, *, journeys: int, touches: int, seed: int) -> None:
    """journeys/ and data/ as training reads them, drawn at random; no two journeys share a touch."""
    rng = np.random.default_rng(seed)
    for name in ("journeys", "data"):
        (folder / name).mkdir()
    (folder / "journeys" / "touches").mkdir()
    (folder / "data" / TRAINING_TABLE).mkdir()
    N, user_J = journeys * touches, np.arange(journeys) // JOURNEYS_A_USER
    ts_N = np.arange(N) % (JOURNEYS_A_USER * touches) * HOUR_US
    item_N = rng.integers(0, ITEMS, N)
    touched = {
        "user_id": np.repeat(user_J, touches),
        "ts": ts_N.astype("datetime64[us]"),
        "item_id": 10 * item_N,
        "cluster_id": (item_N % CLUSTERS).astype(np.int32),
        "watch_ratio": rng.random(N, np.float32),
    }
    touched |= {name: rng.random(N) < 0.2 for name in RESPONSES[1:]}
    pq.write_table(pa.table(touched), folder / "journeys" / part_file("touches", 0), row_group_size=122_880)
    profile, controls = [f"x{i}" for i in range(PROFILE)], [f"n{i}" for i in range(CONTROLS)]
    drawn = {
        "journey_id": np.arange(journeys),
        "user_id": user_J,
        "t_obs": ts_N[touches - 1 :: touches].astype("datetime64[us]"),
        "offset": np.arange(journeys) * touches,
        "length": np.full(journeys, touches, np.int32),
        "label": (rng.random(journeys) < 0.2).astype(np.int8),
        "split": rng.choice(["fit", "selection", "judge"], journeys, p=[0.7, 0.1, 0.2]),
        "upload_id": np.arange(journeys),
    }
    drawn |= {name: rng.normal(size=journeys) for name in profile}
    drawn |= {name: rng.poisson(3, journeys) for name in controls}
    pq.write_table(pa.table(drawn), folder / "data" / part_file(TRAINING_TABLE, 0), row_group_size=122_880)
    item_I, content_ID = np.arange(ITEMS), rng.normal(size=(ITEMS, CONTENT_DIM)).astype(np.float32)
    items = {"item_id": 10 * item_I, "author_id": item_I % 999, "cluster_id": (item_I % CLUSTERS).astype(np.int32)}
    embedding = pa.ListArray.from_arrays(np.arange(0, content_ID.size + 1, CONTENT_DIM), content_ID.ravel())
    pq.write_table(pa.table(items | {"embedding": embedding}), folder / "data" / "items.parquet")
    spec = {"kind": "numeric", "mean": 0.0, "std": 1.0, "median": 0.0}
    schema = {
        "clusters": list(range(CLUSTERS)), "controls": controls, "embedding_dim": CONTENT_DIM,
        "profile": [{"column": name} | spec for name in profile], "responses": list(RESPONSES),
    }  # fmt: skip
    write_json(folder / "data" / "schema.json", schema)
    write_json(folder / "journeys" / "manifest.json", {"config": {"max_touches": touches}})
