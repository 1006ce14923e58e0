"""How a run ends, without the minutes of its steps: those are in tests/e2e/test_run.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from allocator import client
from allocator.embedded import embedded
from allocator.settings import SCOPES, token_from_environment, token_variable
from features.errors import AllocatorError, AlmMtaError, ConfigError
from features.files import sha256_file
from pipelines import run as runner
from pipelines.cli import main
from pipelines.config import PipelineConfig
from pipelines.result import ModelVersion, RunResult
from tests.allocator.tiny_bundle import EFFECT, write_bundle
from validation.worlds import WORLDS, simulate


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    simulate(WORLDS["logit"], 50, 1, tmp_path / "logs")
    return tmp_path / "logs"


@pytest.fixture
def allocator(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "models").mkdir()
    with embedded(tmp_path / "allocator", tmp_path / "models") as url:
        yield url


def _result(workdir: Path) -> dict[str, Any]:
    return dict(json.loads((workdir / "result.json").read_text()))


def test_what_fails_after_the_verdict_leaves_it_standing() -> None:
    approved = RunResult(verdict="approved", reasons=("better",))
    ended = runner._stopped(approved, "the allocator is gone", "plan")
    assert (ended.verdict, ended.reasons, ended.failed_step) == (
        "approved",
        ("better", "the allocator is gone"),
        "plan",
    )
    assert ended.exit_code == 1


def test_other_workers_go_on_with_a_run_and_other_settings_do_not(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise AlmMtaError("a worker died")

    monkeypatch.setattr(runner, "run_local", broken)

    def runs(*settings: str) -> int:
        assert main(["run", "--logs", str(logs), "--workdir", str(tmp_path / "work"), *settings]) == 1
        return len(list((tmp_path / "work" / "runs").iterdir()))

    assert runs("--shards.jobs", "2") == 1
    assert runs("--shards.jobs", "1", "--shards.touches", "1000") == 1
    assert runs("--journeys.max_touches", "8") == 2


def test_a_config_that_means_nothing_to_these_logs_is_a_usage_error_with_a_result(logs: Path, tmp_path: Path) -> None:
    arguments = ["--logs", str(logs), "--workdir", str(tmp_path / "work"), "--contract.mapping", "{touches: {}}"]
    assert main(["run", *arguments]) == 2
    result = _result(tmp_path / "work")
    assert (result["verdict"], result["failed_step"]) == ("refused", "read-logs")
    assert "no table 'touches'" in result["reasons"][0]


def test_a_bug_leaves_a_result_too(logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def preflight(*_: Any) -> None:
        raise ZeroDivisionError("no sessions")

    monkeypatch.setattr(runner, "preflight", preflight)
    with pytest.raises(ZeroDivisionError):
        runner.run(logs, tmp_path / "work", PipelineConfig(), Console(quiet=True))
    assert _result(tmp_path / "work")["reasons"] == ["unexpected ZeroDivisionError: no sessions"]


@pytest.mark.parametrize(
    ("tokens", "error", "said"), [(False, ConfigError, "ALM_MTA_TOKEN_ADMIN"), (True, AllocatorError, "/healthz")]
)
def test_a_configured_allocator_is_tried_before_anything_is_spent(
    tokens: bool, error: type[AlmMtaError], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PROBE_S", 0.1)
    for scope in SCOPES:
        monkeypatch.setenv(token_variable(scope), f"{scope}-0123456789abcdef")
        if not tokens:
            monkeypatch.delenv(token_variable(scope))
    config = PipelineConfig(allocator=client.AllocatorConfig(url="http://127.0.0.1:1"))
    with pytest.raises(error, match=said), runner._allocator(config, tmp_path):
        pass


def test_the_champion_serves_again_unless_it_was_rolled_back(allocator: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for bundle, effect in ((first, EFFECT), (second, EFFECT * 2)):
        write_bundle(bundle, effect=effect)

    def served_again(version: str, bundle: Path) -> str | None:
        champion = ModelVersion(name="tiny", version=version, sha256=sha256_file(bundle / "manifest.json"))
        return runner.served_again(champion, bundle, tmp_path / "models", allocator, timeout_s=10)

    def serving() -> str:
        return str(client.current_model(allocator, token=token_from_environment("push"))["version"])

    assert served_again("1", first) is None
    assert serving() == "1"
    assert served_again("2", second) is None
    assert served_again("2", second) is None
    assert serving() == "2"
    assert "champion v1 was replaced by v2 in the allocator" in str(served_again("1", first))
    client.roll_back(allocator, token=token_from_environment("admin"))
    assert "champion v2 was rolled back in the allocator; retrain" in str(served_again("2", second))
    assert serving() == "1"
    assert served_again("3", second) is None
    assert served_again("2", second) is None  # the same bundle, under another version
