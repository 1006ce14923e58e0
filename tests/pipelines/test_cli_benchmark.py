"""Benchmarks are found by their entry points, and called with what follows their name."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import pytest

from pipelines import cli_benchmark
from pipelines.cli import main


class Point:
    """An entry point of a benchmark that remembers its arguments."""

    name = "speedy"

    def __init__(self) -> None:
        self.heard: list[list[str]] = []

    def load(self) -> Any:
        def run(arguments: list[str]) -> int:
            """How quick it is.

            And more.
            """
            self.heard.append(arguments)
            return 7

        return run


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch) -> Point:
    found = Point()
    monkeypatch.setattr(cli_benchmark, "entry_points", lambda group: [found] if group == cli_benchmark.GROUP else [])
    return found


def test_the_rest_goes_to_the_benchmark_and_its_exit_code_comes_back(point: Point) -> None:
    assert main(["benchmark", "speedy", "--users", "3"]) == 7
    assert point.heard == [["--users", "3"]]


@pytest.mark.usefixtures("point")
@pytest.mark.parametrize("arguments", [["benchmark"], ["benchmark", "--help"]])
def test_without_a_name_they_are_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert "  speedy  How quick it is.\n" in capsys.readouterr().out


@pytest.mark.usefixtures("point")
def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "slow"]) == 2
    assert "no benchmark 'slow': there are speedy" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(entry_points(group=cli_benchmark.GROUP).names))
def test_every_installed_benchmark_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", name, "--help"])
    assert ended.value.code == 0
    assert "--out" in capsys.readouterr().out


def test_the_accuracy_benchmark_is_installed() -> None:
    assert "accuracy" in entry_points(group=cli_benchmark.GROUP).names


def test_accuracy_refuses_what_means_nothing_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "accuracy", "--worlds", "flat"]) == 2
    said = capsys.readouterr().err
    assert "--worlds flat: there are logit" in said
    assert len(said.splitlines()) == 1
