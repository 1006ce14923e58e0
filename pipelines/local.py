"""Run a pipeline with Kubeflow's local runner: steps are subprocesses, finished steps are kept."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from components.runtime import RUNNER_FILE
from pipelines.narrator import Narration, StepFailure, narrated
from pipelines.workdir import RunFolder


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a local run of a pipeline ended."""

    outputs: Mapping[str, Any]
    """The pipeline's outputs, parameters as values and artifacts as local paths; empty after a failure."""
    narration: Narration
    """Seconds a step, steps that were kept, the first failure."""

    @property
    def failure(self) -> StepFailure | None:
        return self.narration.failure


def run_local(
    pipeline: Any, arguments: Mapping[str, Any], run: RunFolder, console: Console, *, silence_s: float = 15.0
) -> Outcome:
    """Run `pipeline(**arguments)` under `run`; steps that finished in an earlier attempt are not run again.

    A step that fails ends the run and is reported in the outcome. Ctrl-C and SIGTERM end the steps, then raise
    KeyboardInterrupt.
    """
    from kfp import local

    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(run.path / "steps"),
        enable_caching=True,
        cache_root=str(run.path / "cache"),
    )
    with narrated(console, run.log, silence_s) as narration, _steps_follow(run.path / ".alive"):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=r"kfp\.local\.")
                task = pipeline(**arguments)
        except RuntimeError as error:
            if "finished with status" not in str(error):
                raise
            if narration.failure is None:
                narration.failure = StepFailure(step="pipeline", error="RuntimeError", text=str(error))
            return Outcome(outputs={}, narration=narration)
    return Outcome(outputs={name: _value(output) for name, output in task.outputs.items()}, narration=narration)


@contextmanager
def _steps_follow(runner_file: Path) -> Iterator[None]:
    """Steps end with this process: they watch a file that names it, gone on every exit and on a signal."""
    runner_file.write_text(str(os.getpid()))
    os.environ[RUNNER_FILE] = str(runner_file)

    def stop(_number: int, _frame: Any) -> None:
        runner_file.unlink(missing_ok=True)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        runner_file.unlink(missing_ok=True)
        os.environ.pop(RUNNER_FILE, None)


def _value(output: Any) -> Any:
    return Path(output.path) if hasattr(output, "path") else output
