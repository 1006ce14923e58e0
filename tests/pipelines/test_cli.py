from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from features.errors import ConfigError
from features.settings import SECTIONS, load_section, to_yaml
from model.settings import TrainConfig
from pipelines.cli import COMMANDS, main
from pipelines.cli_parser import add_sections, parser_for, sections_of
from pipelines.config import PipelineConfig


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"alm-mta {command}" in capsys.readouterr().out


def test_overview_is_quick_and_names_every_command() -> None:
    began = time.monotonic()
    shown = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert time.monotonic() - began < 2
    assert all(f"  {name} " in shown.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["frobnicate"], "frobnicate"),
        (["simulate", "--world", "flat", "--out", "x"], "flat"),
        (["simulate", "--wrld", "logit", "--out", "x"], "--wrld"),
        (["run", "--logs", "x", "--workdir", "y", "--train.max_epoch", "3"], "max_epoch"),
        (["run", "--logs", "x", "--workdir", "y", "--train.max_epochs", "0"], "max_epochs"),
        (["run", "--workdir", "y"], "logs"),
        (["run", "--logs", "x", "--workdir", "y", "--plan.users", "10001"], "plan.users"),
        (["run", "--logs", "x", "--workdir", "y", "--plan.options", "257"], "plan.options"),
        (["run", "--logs", "x", "--workdir", "y", "--journeys.max_touches", "513"], "journeys.max_touches"),
        (["run", "--logs", "x", "--workdir", "y", "--allocator.budget", "b" * 109], "allocator.budget"),
        (["run", "--logs", "x", "--workdir", "y", "--registry.model_name", "my model"], "registry.model_name"),
        (["run", "--logs", "x", "--workdir", "y", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["compile", "--out", "pipeline.txt"], "pipeline.txt"),
        (["train", "--journeys", "nowhere", "--data", "d", "--checkpoints", "c", "--out", "o"], "--journeys nowhere"),
        (["push", "--url", "http://127.0.0.1:1", "--bundle", "x", "--model-root", "y", "--name", "n", "--version", "1",
          "--approval-id", "a"], "manifest.json"),
    ],
)  # fmt: skip
def test_a_command_that_means_nothing_is_named_on_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert named in said
    assert len(said.splitlines()) == 1


def test_yaml_with_an_unknown_key_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "config.yaml"
    settings.write_text("train:\n  epochs: 3\n")
    assert main(["run", "--logs", "x", "--workdir", "y", "--config", str(settings)]) == 2
    assert "epochs" in capsys.readouterr().err


def test_options_override_the_file(tmp_path: Path) -> None:
    settings = tmp_path / "config.yaml"
    settings.write_text(
        "train:\n  max_epochs: 9\n  batch_size: 32\ncontract:\n  mapping: {touchpoints: {item_id: video}}\n"
    )
    parser = parser_for("run", "")
    add_sections(parser, PipelineConfig)
    options = parser.parse_args(["--config", str(settings), "--train.max_epochs", "2", "--judge.buckets", "3"])
    config = sections_of(parser, options, PipelineConfig)
    assert (config.train.max_epochs, config.train.batch_size, config.judge.buckets) == (2, 32, 3)
    assert config.contract.mapping == {"touchpoints": {"item_id": "video"}}


def test_sections_are_known_by_name() -> None:
    assert tuple(field.name for field in dataclasses.fields(PipelineConfig)) == SECTIONS
    with pytest.raises(ConfigError, match=r"no section 'trian'; there are contract, .* train"):
        load_section("trian: {max_epochs: 3}", "train", TrainConfig)


@pytest.mark.parametrize("command", ["train", "sweep", "evaluate"])
def test_a_stage_reads_its_own_sections_of_a_whole_config(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folders are looked at once the config is read, so a complaint about them says that it could be."""
    settings = tmp_path / "config.yaml"
    settings.write_text("logs: null\n" + to_yaml(PipelineConfig()))
    more = {"train": ["--checkpoints", "c"], "sweep": [], "evaluate": ["--credits", "c", "--model", "m", "--logs", "l"]}
    inputs = ["--journeys", "nowhere", "--data", "d", "--out", "o", *more[command]]
    assert main([command, *inputs, "--config", str(settings)]) == 2
    assert "--journeys nowhere: no manifest.json there" in capsys.readouterr().err
    settings.write_text("judge: {bukets: 3}\ntrain: {bach: 3}")
    assert main([command, *inputs, "--config", str(settings)]) == 2
    assert ("bukets" if command == "evaluate" else "bach") in capsys.readouterr().err


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["simulate", "--users", "20", "--out", str(tmp_path / "logs")]
    assert main(arguments) == 0
    assert main(arguments) == 0  # its own it may replace
    (tmp_path / "logs" / "truth" / "world.json").unlink()
    assert main(arguments) == 2
    assert "logs: holds files but no truth/world.json" in capsys.readouterr().err
    assert (tmp_path / "logs" / "touchpoints").is_dir()


@pytest.mark.parametrize("command", ["submit", "schedule"])
def test_a_cluster_registers_on_its_own_server(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    cron = ["--cron", "0 0 3 * * *"] if command == "schedule" else []
    assert main([command, "--logs", "/data/logs", "--dry-run", *cron]) == 0
    calls = json.loads(capsys.readouterr().out)["calls"]
    arguments = (
        calls["create_recurring_run"]["params"] if cron else calls["create_run_from_pipeline_package"]["arguments"]
    )
    assert "tracking_uri: http://mlflow.alm-mta:5000\n" in arguments["config"]


def test_a_section_of_another_type_is_refused_by_key() -> None:
    with pytest.raises(ConfigError, match="max_epochs"):
        load_section("train: {max_epochs: many}", "train", TrainConfig)
    with pytest.raises(ConfigError, match="epocks"):
        load_section("train: {epocks: 1}", "train", TrainConfig)
    with pytest.raises(ConfigError, match="not YAML"):
        load_section("train: {", "train", TrainConfig)


def test_logs_that_are_not_there_are_refused_with_a_complete_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["run", "--logs", str(tmp_path / "nowhere"), "--workdir", str(tmp_path / "work")])
    said = capsys.readouterr()
    assert code == 1
    assert said.err.splitlines()[-1].startswith("refused: table 'touchpoints': missing table")
    assert (tmp_path / "work" / "result.json").exists()
    assert not (tmp_path / "work" / "mlflow.db").exists()
