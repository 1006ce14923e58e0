"""`make` tells what it can do, and what it would run; nothing here installs anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


def make(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    for name in ("LOGS", "WORLD", "USERS", "SEED", "ARGS", "PYTHON"):
        inherited.pop(name, None)
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=inherited | environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile and what it depends on, with an environment that is up to date but whose commands only tell."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
        os.utime(tmp_path / name, (1, 1))
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    (commands / "alm-mta").write_text('#!/bin/sh\necho "$@" >>told\n[ "$1" != run ] || exit ${VERDICT:-0}\n')
    (commands / "alm-mta").chmod(0o755)
    (tmp_path / ".venv" / ".installed").touch()
    return tmp_path


def test_help_lists_every_public_target() -> None:
    shown = make()
    assert shown.returncode == 0
    [declared] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"^  make ([a-z-]+) ", shown.stdout, re.MULTILINE) == declared.split()


def test_run_simulates_once_for_each_choice_of_world(checkout: Path) -> None:
    for seed in ("7", "7", "8"):
        assert make("run", f"SEED={seed}", folder=checkout).returncode == 0
    simulate = "simulate --world logit --users 20000 --seed {} --out work/logit/logs"
    run = "run --logs work/logit/logs --workdir work/logit"
    assert (checkout / "told").read_text().splitlines() == [simulate.format(7), run, run, simulate.format(8), run]


@pytest.mark.parametrize("logs", ["elsewhere/my logs", "elsewhere/my logs/"])
def test_run_takes_own_logs_from_the_environment(checkout: Path, logs: str) -> None:
    (checkout / logs).mkdir(parents=True)
    assert make("run", "ARGS=--sweep.trials 2", folder=checkout, LOGS=logs).returncode == 0
    told = f"run --logs {logs} --workdir work/my logs-[0-9]+ --sweep.trials 2\n"
    assert re.fullmatch(told, (checkout / "told").read_text())


def test_logs_of_one_name_in_two_places_have_two_workdirs(checkout: Path) -> None:
    for logs in ("a/logs", "b/logs", "a/../a/logs"):
        (checkout / logs).mkdir(parents=True, exist_ok=True)
        assert make("run", folder=checkout, LOGS=logs).returncode == 0
    a, b, a_again = [line.split("--workdir ")[1] for line in (checkout / "told").read_text().splitlines()]
    assert a == a_again != b


def test_logs_that_are_not_there_are_named(checkout: Path) -> None:
    refused = make("run", folder=checkout, LOGS="nowhere")
    assert refused.returncode != 0
    assert "error: LOGS=nowhere is not a folder" in refused.stderr
    assert not (checkout / "told").exists()


def test_a_run_that_is_not_approved_fails(checkout: Path) -> None:
    refused = make("run", folder=checkout, VERDICT="1")
    assert refused.returncode != 0
    assert refused.stderr.strip().endswith("run] Error 1")


def test_changed_pins_ask_for_an_update(checkout: Path) -> None:
    assert make("-q", ".venv/.installed", folder=checkout).returncode == 0
    later = (checkout / ".venv" / ".installed").stat().st_mtime + 1
    os.utime(checkout / "constraints.txt", (later, later))
    assert make("-q", ".venv/.installed", folder=checkout).returncode == 1
    assert " -m venv --clear .venv" in make("-n", ".venv/.installed", folder=checkout).stdout


@pytest.mark.parametrize(("python", "reason"), [("", "no Python 3.11 or 3.12 found"), ("/bin/false", "is not Python")])
def test_a_missing_python_is_one_line(checkout: Path, python: str, reason: str) -> None:
    (checkout / ".venv" / ".installed").unlink()
    refused = make("lint", f"PYTHON={python}", folder=checkout)
    assert refused.returncode != 0
    [line] = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert reason in line
