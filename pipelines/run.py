"""`alm-mta run`: the whole pipeline on this machine, from logs to a serving model, with one result.json at its end."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from allocator import client
from allocator.embedded import embedded
from allocator.settings import SCOPES, token_from_environment, token_variable
from components.outputs import push_bundle
from features import errors
from features.errors import AllocatorError, AlmMtaError, ConfigError
from features.files import link, read_json
from features.reader import open_logs
from features.settings import one_line, to_yaml
from features.shards import ShardConfig
from features.storage import location
from pipelines.config import PipelineConfig
from pipelines.local import Outcome, run_local
from pipelines.narrator import StepFailure
from pipelines.plan import request_plan
from pipelines.preflight import preflight
from pipelines.result import ModelVersion, RunResult
from pipelines.training import training_pipeline
from pipelines.workdir import RunFolder, identity_of, only_run_in, open_run

logger = logging.getLogger(__name__)


def run(logs: Path | str, workdir: Path, config: PipelineConfig, console: Console) -> RunResult:
    """Run the pipeline on `logs` under `workdir` and write WORKDIR/result.json, whatever the ending.

    Expected failures end in a result that says so: `refused` before the gate, its verdict after. Raises WorkdirBusy,
    and, with the result written, ConfigError, KeyboardInterrupt and what nobody expected.
    """
    workdir = workdir.resolve()
    with only_run_in(workdir):
        (workdir / "result.json").unlink(missing_ok=True)
        return _Attempt(workdir, console).on(location(logs).resolve(), _with_local_registry(config, workdir))


class _Attempt:
    """One go at a run; holds what every ending needs to tell."""

    def __init__(self, workdir: Path, console: Console) -> None:
        self._workdir, self._console = workdir, console
        self._began = time.monotonic()
        self._run: RunFolder | None = None
        self._seconds: dict[str, float] = {}

    def on(self, logs: Path, config: PipelineConfig) -> RunResult:
        step, result = "read-logs", RunResult(verdict="refused", reasons=())
        try:
            fingerprint = self._look_at(logs, config)
            self._run = open_run(self._workdir, identity_of(to_yaml(_as_it_counts(config)), fingerprint))
            self._say_where()
            step = "allocator"
            with _allocator(config, self._workdir) as url:
                outcome = self._steps(logs, config, url)
                if outcome.failure is not None:
                    return self._end(config, _failed(outcome.failure, self._run))
                result = _judged(outcome, self._run)
                if result.verdict == "unchanged":
                    step = "push"
                    result = self._with_champion_served(result, outcome, config, url)
                if result.approved:
                    step = "plan"
                    result = self._with_plan(result, outcome, config, url)
            self._run.finish()
            return self._end(config, result)
        except ConfigError as error:
            self._end(config, _stopped(result, one_line(error), step))
            raise
        except AlmMtaError as error:
            return self._end(config, _stopped(result, one_line(error), step))
        except KeyboardInterrupt:
            self._end(
                config, _stopped(result, "interrupted; the same command goes on from the last finished step", step)
            )
            raise
        except Exception as error:
            self._end(config, _stopped(result, f"unexpected {type(error).__name__}: {one_line(error)}", step))
            raise

    def _look_at(self, logs: Path, config: PipelineConfig) -> str:
        self._console.print(f"[bold]alm-mta[/] reads {escape(str(logs))}", highlight=False, soft_wrap=True)
        with self._timed("preflight"):
            opened = open_logs(logs, mapping=config.contract.mapping)
            for line in preflight(opened, config.journeys).lines():
                self._console.print(f"[dim]    {escape(line)}[/]", highlight=False, soft_wrap=True)
        return opened.fingerprint

    def _say_where(self) -> None:
        assert self._run is not None
        how = "goes on with" if self._run.resumed else "is"
        line = f"[dim]    this {how} run {self._run.run_id}; its log: {self._run.log}[/]"
        self._console.print(line, highlight=False, soft_wrap=True)

    def _steps(self, logs: Path, config: PipelineConfig, url: str) -> Outcome:
        assert self._run is not None
        arguments = {
            "logs": str(logs),
            "config": to_yaml(config),
            "allocator_url": url,
            "model_store": str(_model_store(self._workdir)),
            "checkpoint_root": str(self._run.checkpoints),
        }
        pipeline = training_pipeline(with_sweep=config.sweep.trials > 0)
        outcome = run_local(pipeline, arguments, self._run, self._console)
        self._seconds |= outcome.narration.seconds
        return outcome

    def _with_champion_served(self, result: RunResult, outcome: Outcome, config: PipelineConfig, url: str) -> RunResult:
        """`result`, with a reason more if the allocator does not serve the champion and will not."""
        bundle, store = outcome.outputs["model"], _model_store(self._workdir)  # bit for bit the champion's
        reason = served_again(_champion(config), bundle, store, url, timeout_s=config.allocator.timeout_s)
        return result if reason is None else dataclasses.replace(result, reasons=(*result.reasons, reason))

    def _with_plan(self, result: RunResult, outcome: Outcome, config: PipelineConfig, url: str) -> RunResult:
        assert self._run is not None
        with self._timed("plan"):
            champion = _champion(config)
            serving = client.current_model(url, token=token_from_environment("allocate"))
            if (serving["version"], serving["sha256"]) != (champion.version, champion.sha256):
                raise AllocatorError(
                    f"the allocator serves v{serving['version']} ({serving['sha256'][:12]}), the champion is "
                    f"v{champion.version} ({str(champion.sha256)[:12]}): retrain, or roll back in the allocator"
                )
            plan = request_plan(
                url,
                journeys=outcome.outputs["journeys"],
                data=outcome.outputs["data"],
                run_id=self._run.run_id,
                config=config.plan,
                allocator=config.allocator,
            )
        return dataclasses.replace(result, plan=plan)

    def _end(self, config: PipelineConfig, result: RunResult) -> RunResult:
        """Complete, write and show a result."""
        timings = self._seconds | {"total": round(time.monotonic() - self._began, 3)}
        try:
            result = dataclasses.replace(result, model=_champion(config), timings=timings)
        except AlmMtaError as error:  # a registry that cannot be read must not cost the result
            reasons = (*result.reasons, f"the champion is unknown: {one_line(error)}")
            result = dataclasses.replace(result, reasons=reasons, timings=timings)
        places = [self._workdir / "result.json"]
        if self._run is not None:
            result = dataclasses.replace(result, run_id=self._run.run_id)
            places.append(self._run.path / "result.json")
        result.write(*places)
        show(result, self._workdir, self._console)
        return result

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._seconds[name] = round(time.monotonic() - began, 3)


def served_again(champion: ModelVersion, bundle: Path, store: Path, url: str, *, timeout_s: float) -> str | None:
    """Push the champion to an allocator that may have lost it; why it does not serve, or None.

    Nothing changes where it serves. Where people took it out of service, it stays out. Raises AllocatorError.
    """
    name, version = str(champion.name), str(champion.version)
    state = push_bundle(bundle, store, url, name=name, version=version, timeout_s=timeout_s)["state"]
    if state == "active":
        return None
    serving = client.current_model(url, token=token_from_environment("push"), timeout_s=timeout_s)
    if serving["sha256"] == champion.sha256:  # under another version
        return None
    gone = "rolled back" if state == "withdrawn" else f"replaced by v{serving['version']}"
    return f"champion v{version} was {gone} in the allocator; retrain, or push it there under a new version"


def show(result: RunResult, workdir: Path, console: Console) -> None:
    """A short table of what came out, and the paths to look at."""
    colour = "green" if result.exit_code == 0 else "yellow" if result.failed_step is None else "red"
    rows = [("verdict", f"[bold {colour}]{result.verdict}[/]"), *(("", escape(reason)) for reason in result.reasons)]
    if result.model.version:
        digest = str(result.model.sha256)[:12]
        rows.append(("champion", f"{result.model.name} v{result.model.version}, sha256 {digest}…"))
    rows += [
        (name.replace("_", " "), f"{result.metrics[name]:.3f}") for name in SHOWN_METRICS if name in result.metrics
    ]
    if result.plan is not None:
        lines, spent, gap = len(result.plan["plan"]), result.plan["spent"], result.plan["gap"]
        rows.append(("plan", f"{lines} grants for {spent} units, at most {gap:.2%} from the best possible"))
    places = (("report", result.report), ("data docs", result.data_docs), ("credits", result.attributions))
    rows += [(name, escape(path)) for name, path in places if path is not None]
    rows.append(("result", escape(str(workdir / "result.json"))))
    if (workdir / "mlflow.db").exists():
        rows.append(("experiments", escape(f"mlflow ui --backend-store-uri sqlite:///{workdir / 'mlflow.db'}")))
    rows.append(("time", f"{result.timings['total']:.0f} s"))
    console.print()
    for name, value in rows:
        console.print(f"[dim]{name:<18}[/]{value}", highlight=False, soft_wrap=True)


PROBE_S = 5.0
"""A configured allocator must answer within this time."""
SHOWN_METRICS = ("upload_auc", "coverage", "truth_corr", "truth_corr_naive", "truth_slope")


def _stopped(result: RunResult, reason: str, step: str) -> RunResult:
    """`result` as far as it came, which a verdict of the gate survives, and why it went no further than `step`."""
    return dataclasses.replace(result, reasons=(*result.reasons, reason), failed_step=step)


def _failed(failure: StepFailure, run: RunFolder) -> RunResult:
    """An expected error speaks for itself; any other is a bug, and names its step and the log."""
    expected = isinstance(kind := getattr(errors, failure.error, None), type) and issubclass(kind, AlmMtaError)
    bug = f"step {failure.step} failed with {failure.error}: {failure.text}; its traceback is in {run.log}"
    return RunResult(verdict="refused", reasons=(failure.text if expected else bug,), failed_step=failure.step)


def _judged(outcome: Outcome, run: RunFolder) -> RunResult:
    """The gate's verdict, with what people look at copied to the run's folder under plain names."""
    evaluation = outcome.outputs["evaluation"]
    decision = read_json(evaluation / "decision.json")
    shutil.copyfile(evaluation / "report.html", run.path / "report.html")
    for name, source in (
        ("journeys", outcome.outputs["journeys"]),
        ("data", outcome.outputs["data"]),
        ("bundle", outcome.outputs["model"]),
        ("attributions", outcome.outputs["credits"] / "attributions"),
        ("interactions", outcome.outputs["credits"] / "interactions"),
        ("data_docs/logs", outcome.outputs["logs_quality"] / "data_docs"),
        ("data_docs/training_table", outcome.outputs["table_quality"] / "data_docs"),
    ):
        shutil.rmtree(run.path / name, ignore_errors=True)
        if source.exists():
            shutil.copytree(source, run.path / name, copy_function=link)
    shutil.copyfile(evaluation / "decision.json", run.path / "attributions" / DECISION)
    return RunResult(
        verdict=decision["verdict"],
        reasons=tuple(decision["reasons"]),
        metrics=read_json(evaluation / "evaluation.json")["metrics"],
        attributions=str(run.path / "attributions"),
        report=str(run.path / "report.html"),
        data_docs=str(run.path / "data_docs" / "logs" / "index.html"),
    )


DECISION = "_decision.json"
"""Travels with the credits: the verdict, and in `violations` the assumptions that the logs contradict. Parquet readers
skip names that begin with an underscore."""


def _champion(config: PipelineConfig) -> ModelVersion:
    """The version that serves; a sqlite registry that was never written is not made for the question."""
    from model import registry

    uri = config.registry.tracking_uri
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return ModelVersion()
    champion = registry.champion_version(config.registry)
    if champion is None:
        return ModelVersion()
    return ModelVersion(name=champion.name, version=champion.version, sha256=champion.sha256)


def _with_local_registry(config: PipelineConfig, workdir: Path) -> PipelineConfig:
    """Without a registry of the user's own: sqlite in the workdir."""
    if config.registry.tracking_uri:
        return config
    local = dataclasses.replace(
        config.registry,
        tracking_uri=f"sqlite:///{workdir / 'mlflow.db'}",
        artifact_root=config.registry.artifact_root or (workdir / "mlartifacts").as_uri(),
    )
    return dataclasses.replace(config, registry=local)


def _as_it_counts(config: PipelineConfig) -> PipelineConfig:
    """The config without what no result depends on, so that a run goes on with other workers than it began with."""
    return dataclasses.replace(config, shards=ShardConfig())


def _model_store(workdir: Path) -> Path:
    return workdir / "models"


@contextmanager
def _allocator(config: PipelineConfig, workdir: Path) -> Iterator[str]:
    """The configured allocator, once it answers, or one on loopback that lives as long as the run.

    Raises ConfigError without the configured one's tokens, AllocatorError without an answer.
    """
    if config.allocator.url:
        lacking = [token_variable(scope) for scope in SCOPES if token_from_environment(scope) is None]
        if lacking:
            raise ConfigError(f"allocator.url = {config.allocator.url} needs {', '.join(lacking)} in the environment")
        client.wait_alive(config.allocator.url, PROBE_S)
        yield config.allocator.url
        return
    _model_store(workdir).mkdir(parents=True, exist_ok=True)
    with embedded(workdir / "allocator", _model_store(workdir)) as url:
        yield url
