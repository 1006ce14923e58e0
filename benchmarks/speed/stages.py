"""Every stage of a run on logs of rising size, each in a process of its own, and how its cost grows.

    cpu(n) = s + c nᵏ      n touchpoints, s the least that a stage costs at any size, k the scaling exponent:
    k = log[(cpu(n₂) − s) / (cpu(n₁) − s)] / log(n₂ / n₁)      over the two largest sizes

Training takes one epoch, whatever early stopping would do, and no stage sees what another one left in memory. The
sizes take turns, so that a machine that slows down slows all of them, and the cheapest turn counts: what else runs on
the machine only adds.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.contest import take_turns
from benchmarks.speed.measure import Cost, Outcome, Work
from benchmarks.speed.tables import open_written, write_logs

STAGES = (
    "open_logs", "validate_logs", "build_journeys", "retrieve_features", "validate_training_table", "train",
    "attribute",
)  # fmt: skip
FLOOR = 2_000
"""Touchpoints of the smallest logs, whose cost is hardly more than s: fewer give no journeys to train on."""
LONG_TURNS, LONG_S = 2, 60.0
"""Most turns of a stage of more CPU-seconds at some size, all of them cold; of others all but the first are warm."""
_OUTPUTS = {
    "open_logs": "logs", "build_journeys": "journeys", "retrieve_features": "data", "train": "model",
    "attribute": "credits",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What a stage cost on logs of one size. stored_bytes: of the folder it leaves (open_logs: of the logs)."""

    stage: str
    touches: int
    cost: Cost
    stored_bytes: int


def run(
    folder: Path, sizes: Sequence[int], names: Sequence[str], turns: int, tell: Callable[[str], None]
) -> list[StageCost]:
    """The stages `names`, in order, on logs of FLOOR and of every size; what they need runs too."""
    places = {touches: folder / str(touches) for touches in (FLOOR, *sizes)}
    for touches, place in places.items():
        write_logs(place / "logs", touches)
    taken = []
    for name in STAGES[: max(map(STAGES.index, names)) + 1]:
        costs = _turns(name, places, turns, tell)
        if name in names:
            taken += [
                StageCost(stage=name, touches=touches, cost=costs[touches], stored_bytes=_stored(place, name))
                for touches, place in places.items()
            ]
    return taken


def _turns(name: str, places: Mapping[int, Path], turns: int, tell: Callable[[str], None]) -> dict[int, Cost]:
    """The stage's cheapest turn at every size."""
    task = f"benchmarks.speed.stages:{name}"
    tasks = {f"{name}, {touches:,} touchpoints": (task, {"folder": place}) for touches, place in places.items()}
    first = take_turns(tasks, 1, tell, warm=False)
    is_long = max(cost.cpu_s for taken in first.values() for cost in taken) > LONG_S
    more = take_turns(tasks, (min(turns, LONG_TURNS) if is_long else turns) - 1, tell, warm=not is_long)
    cheapest = (min(first[task] + more[task], key=lambda cost: cost.cpu_s) for task in tasks)
    return dict(zip(places, cheapest, strict=True))


def exponents(taken: Sequence[StageCost]) -> dict[str, float | None]:
    """k of every stage; None where start-up leaves nothing to fit."""
    found: dict[str, float | None] = {}
    for name in dict.fromkeys(each.stage for each in taken):
        cpu = {each.touches: each.cost.cpu_s for each in taken if each.stage == name}
        start_up, sizes = min(cpu.values()), sorted(cpu.keys() - {FLOOR})
        if len(sizes) < 2:
            found[name] = None
            continue
        low, high = sizes[-2:]
        grown = cpu[high] - start_up, cpu[low] - start_up
        found[name] = math.log(grown[0] / grown[1]) / math.log(high / low) if min(grown) > 0 else None
    return found


def as_dict(taken: Sequence[StageCost]) -> dict[str, Any]:
    """Fit for JSON."""
    return {"floor": FLOOR, "costs": [asdict(each) for each in taken], "exponents": exponents(taken)}


def _stored(place: Path, name: str) -> int:
    folder = _OUTPUTS.get(name)
    return sum(file.stat().st_size for file in (place / folder).rglob("*") if file.is_file()) if folder else 0


def _fresh(place: Path, *folders: str) -> Path:
    """`place` without what an earlier turn left in these folders, which a stage might keep where it finds it."""
    for folder in folders:
        shutil.rmtree(place / folder, ignore_errors=True)
    return place


def open_logs(folder: str) -> Work:
    """The contract's checks."""
    from features import reader

    def work() -> Callable[[], Outcome]:
        logs = reader.open_logs(Path(folder) / "logs")
        return lambda: Outcome(rows=sum(logs.rows.values()))

    return work


def validate_logs(folder: str) -> Work:
    """The checkpoint of the logs."""
    import validation.gx_duckdb  # noqa: F401 -- seconds of imports
    from validation import data_quality

    logs, out = open_written(Path(folder) / "logs"), _fresh(Path(folder), "logs_quality") / "logs_quality"

    def work() -> Callable[[], Outcome]:
        data_quality.validate_logs(logs, out)
        return lambda: Outcome(rows=sum(logs.rows.values()))

    return work


def build_journeys(folder: str) -> Work:
    """Journeys with the default configuration."""
    import pandas  # noqa: F401 -- pyarrow imports it with the first array

    from features import journeys

    logs, out = open_written(Path(folder) / "logs"), _fresh(Path(folder), "journeys") / "journeys"

    def work() -> Callable[[], Outcome]:
        journeys.build_journeys(logs, journeys.JourneyConfig(), out)
        return lambda: Outcome(rows=_manifest(folder)["journeys"])

    return work


def retrieve_features(folder: str) -> Work:
    """Sources and retrieval through Feast."""
    from features import retrieval

    logs, place = open_written(Path(folder) / "logs"), _fresh(Path(folder), "store", "data")

    def work() -> Callable[[], Outcome]:
        retrieval.retrieve_features(logs, place / "journeys", place / "store", place / "data")
        return lambda: Outcome(rows=_manifest(folder)["journeys"])

    return work


def validate_training_table(folder: str) -> Work:
    """The checkpoint of the training table."""
    import validation.gx_duckdb  # noqa: F401 -- seconds of imports
    from validation import data_quality

    place = _fresh(Path(folder), "table_quality")

    def work() -> Callable[[], Outcome]:
        data_quality.validate_training_table(place / "journeys", place / "data", place / "table_quality")
        return lambda: Outcome(rows=_manifest(folder)["journeys"])

    return work


def train(folder: str) -> Work:
    """One epoch of the default model and one of the naive baseline."""
    from model import train as training
    from model.settings import ModelConfig, TrainConfig

    place = _fresh(Path(folder), "model", "baselines", "checkpoints")

    def work() -> Callable[[], Outcome]:
        training.train(
            journeys_dir=place / "journeys", data_dir=place / "data", model_config=ModelConfig(),
            config=TrainConfig(seed=7, max_epochs=1, min_steps=1), checkpoints=place / "checkpoints",
            out=place / "model", baselines_out=place / "baselines",
        )  # fmt: skip
        return lambda: Outcome(rows=_manifest(folder)["splits"]["fit"])

    return work


def attribute(folder: str) -> Work:
    """Credits of every journey."""
    from model import attribution

    place = _fresh(Path(folder), "credits")

    def work() -> Callable[[], Outcome]:
        attribution.attribute(
            model_dir=place / "model", journeys_dir=place / "journeys", data_dir=place / "data",
            out=place / "credits", baselines_dir=place / "baselines",
        )  # fmt: skip
        return lambda: Outcome(rows=_manifest(folder)["journeys"])

    return work


def _manifest(folder: str) -> Mapping[str, Any]:
    from features.files import read_json

    manifest: Mapping[str, Any] = read_json(Path(folder) / "journeys" / "manifest.json")
    return manifest
