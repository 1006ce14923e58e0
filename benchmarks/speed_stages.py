"""Where a run's time goes: every stage on a simulated world, once, one after the other, in this process.

`python -m benchmarks.speed_stages --users 20000 --seed 7` writes speed_stages.json and speed_stages.md.

wall_s is elapsed, cpu_s the CPU time of this process and its children, rate = rows / wall_s, where a stage's rows
are what it has to go through; train also fits the naive baseline, as a run does, and counts the model's epochs.
peak_mib is the process's largest resident set so far, so it never falls.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import platform
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from features.errors import AlmMtaError
from features.files import atomic_file, read_json, write_json

logger = logging.getLogger(__name__)

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("alm-mta", "duckdb", "feast", "lightning", "numpy", "pyarrow", "torch")


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """What one stage cost."""

    stage: str
    """Name of the function that was timed."""
    rows: int
    """Rows it goes through."""
    unit: str
    """What a row is."""
    wall_s: float
    """Elapsed seconds."""
    cpu_s: float
    """CPU seconds of the process and its children."""
    peak_mib: float
    """Largest resident set so far, MiB."""

    @property
    def rate(self) -> float:
        """Rows per elapsed second."""
        return self.rows / self.wall_s


@dataclass
class Stopwatch:
    """Collects the stages' costs in order."""

    stages: list[StageTime] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, unit: str, rows: Callable[[], int]) -> Iterator[None]:
        """Time the body; `rows` is asked afterwards, when the stage's result can tell, and is not timed."""
        logger.info("%s ...", name)
        wall, cpu = time.perf_counter(), _cpu_seconds()
        yield
        wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        taken = StageTime(stage=name, rows=rows(), unit=unit, wall_s=wall, cpu_s=cpu, peak_mib=peak)
        self.stages.append(taken)
        logger.info("%s: %.1f s, %s %s a second", name, wall, f"{taken.rate:,.0f}", unit)


def time_stages(work: Path, users: int, seed: int, world: str) -> list[StageTime]:
    """Simulate `users` users of `world` under `work` and time every stage with the default configuration."""
    from features.journeys import JourneyConfig, build_journeys
    from features.reader import open_logs
    from features.retrieval import retrieve_features
    from model.attribution import attribute
    from model.settings import ModelConfig, TrainConfig
    from model.train import train
    from validation.evaluate import evaluate
    from validation.measured import JudgeConfig
    from validation.worlds import WORLDS, simulate

    watch = Stopwatch()
    logs_root, journeys, data, model, baselines, credits = (
        work / name for name in ("logs", "journeys", "data", "model", "baselines", "credits")
    )

    def counted(*keys: str) -> Callable[[], int]:
        return lambda: int(reduce(getitem, keys, read_json(journeys / "manifest.json")))

    with watch.stage("simulate", "users", lambda: users):
        simulate(WORLDS[world], users, seed, logs_root)
    with watch.stage("open_logs", "rows", lambda: sum(logs.rows.values())):
        logs = open_logs(logs_root)
    with watch.stage("build_journeys", "touches", counted("touches")):
        build_journeys(logs, JourneyConfig(), journeys)
    with watch.stage("retrieve_features", "journeys", counted("journeys")):
        retrieve_features(logs, journeys, work / "store", data)
    with watch.stage("train", "journeys x epochs", lambda: _journeys_trained(journeys, model)):
        train(
            journeys_dir=journeys,
            data_dir=data,
            model_config=ModelConfig(),
            config=TrainConfig(seed=seed),
            checkpoints=work / "checkpoints",
            out=model,
            baselines_out=baselines,
        )
    with watch.stage("attribute", "journeys", counted("journeys")):
        attribute(model_dir=model, journeys_dir=journeys, data_dir=data, out=credits, baselines_dir=baselines)
    with watch.stage("evaluate", "judge journeys", counted("splits", "judge")):
        evaluate(
            journeys_dir=journeys,
            data_dir=data,
            credits_dir=credits,
            model_dir=model,
            logs_root=logs_root,
            config=JudgeConfig(),
            out=work / "evaluation",
        )
    return watch.stages


def provenance(command: str, users: int, seed: int, world: str) -> dict[str, Any]:
    """Everything needed to repeat a measurement, fit for JSON."""
    return {
        "command": command,
        "world": {"name": world, "users": users, "seed": seed},
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
    }


def result_of(stages: list[StageTime], command: str, users: int, seed: int, world: str) -> dict[str, Any]:
    """The stages with what is needed to repeat them."""
    return provenance(command, users, seed, world) | {
        "stages": [asdict(stage) | {"rate": stage.rate} for stage in stages],
        "total_wall_s": sum(stage.wall_s for stage in stages),
    }


def to_markdown(result: dict[str, Any]) -> str:
    """The result as a table under the command that made it."""
    total = result["total_wall_s"]
    lines = [
        "# Time of every stage",
        "",
        f"`{result['command']}` on {result['machine']['cores']} cores ({result['machine']['architecture']}); "
        + ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        + ".",
        "",
        "| stage | wall s | share | CPU s | rate | peak MiB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {s['stage']} | {s['wall_s']:.1f} | {s['wall_s'] / total:.0%} | {s['cpu_s']:.1f} "
        f"| {s['rate']:,.0f} {s['unit']}/s | {s['peak_mib']:,.0f} |"
        for s in result["stages"]
    ]
    return "\n".join([*lines, f"| all | {total:.1f} | | | | |", ""])


def _journeys_trained(journeys: Path, model: Path) -> int:
    """Fit journeys times the epochs that the model's history tells."""
    fitted = int(read_json(journeys / "manifest.json")["splits"]["fit"])
    return fitted * len(read_json(model / "history.json")["epochs"])


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main(arguments: list[str] | None = None) -> int:
    """Time the stages and write the results; 0 done, 1 a stage failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed_stages", description=__doc__)
    parser.add_argument("--users", type=int, default=20_000, help="users to simulate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="seed of world and training (default: %(default)s)")
    parser.add_argument("--world", default="logit", help="name of the world (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        with tempfile.TemporaryDirectory(prefix="alm-mta-bench-") as work:
            stages = time_stages(Path(work), options.users, options.seed, options.world)
    except AlmMtaError as error:
        logger.error("%s", error)
        return 1
    given = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "-m", "benchmarks.speed_stages", *given])
    result = result_of(stages, command, options.users, options.seed, options.world)
    write_json(options.out / "speed_stages.json", result)
    with atomic_file(options.out / "speed_stages.md") as file:
        file.write_text(to_markdown(result))
    logger.info("wrote %s", options.out / "speed_stages.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
