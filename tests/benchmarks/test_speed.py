"""Ratios are of the costs they name, limits are judged by medians, costs are the work's alone; a run is complete."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import cli, retrieval, stages
from benchmarks.speed.contest import Check, agree, ratio
from benchmarks.speed.extrapolation import extrapolate
from benchmarks.speed.measure import Cost, Outcome, Spread, Work, in_process, measure
from benchmarks.speed.stages import FLOOR, StageCost, exponents
from features.errors import AlmMtaError, ConfigError


def cost(cpu_s: float, *, rows: int = 0, answer: Any = None) -> Cost:
    return Cost(
        cpu_s=cpu_s, wall_s=cpu_s, peak_mib=100, read_mb=0, written_mb=0, startup_cpu_s=1, rows=rows, answer=answer
    )


def stage(name: str, touches: int, cpu_s: float, *, rows: int = 0, stored_bytes: int = 0) -> StageCost:
    return StageCost(stage=name, touches=touches, cost=cost(cpu_s, rows=rows), stored_bytes=stored_bytes)


def burn(start_up: float, work: float) -> Work:
    """Spends CPU before the work, in it, and after it."""

    def spend(seconds: float) -> None:
        stop = time.process_time() + seconds
        while time.process_time() < stop:
            pass

    def work_() -> Callable[[], Outcome]:
        spend(work)

        def finish() -> Outcome:
            spend(0.3)
            return Outcome(rows=3, answer="done")

        return finish

    spend(start_up)
    return work_


def test_only_the_work_is_timed() -> None:
    taken = measure(f"{__name__}:burn", {"start_up": 0.2, "work": 0.1})
    assert taken.cpu_s == pytest.approx(0.1, abs=0.05)
    assert taken.startup_cpu_s > 0.2
    assert (taken.rows, taken.answer) == (3, "done")


def test_a_task_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(AlmMtaError, match=r"(?s)retrieval:plain failed: .*entity\.parquet"):
        in_process("benchmarks.speed.retrieval:plain", {"folder": tmp_path, "table": "nothing"})


def test_ratios_and_limits_by_hand() -> None:
    """2/1, 3/2 and 8/2: the median 2 keeps 2 and breaks 1.9."""
    costs = {"a": [cost(2), cost(3), cost(8)], "b": [cost(1), cost(2), cost(2)]}
    found = ratio(costs, "a", "b")
    assert found == Spread(median=2, least=1.5, most=4)
    assert Check(what="", unit="", value=found, most=2).met
    assert not Check(what="", unit="", value=found, most=1.9).met
    assert not Check(what="", unit="", value=found, least=2.1).met
    assert Check(what="", unit="", value=found).met is None


def test_contestants_that_disagree_are_refused() -> None:
    same = {"a": [cost(1, answer=[1, "x"])], "b": [cost(2, answer=[1, "x"])]}
    agree(same, ("a", "b"))
    with pytest.raises(AlmMtaError, match="answers differ"):
        agree({**same, "b": [cost(2, answer=[1, "y"])]}, ("a", "b"))


def test_exponents_by_hand() -> None:
    """s = 1; then 3 and 33 at a tenfold size: 2 -> 32, log10(16). Where the smaller size is the cheapest, none."""
    taken = [stage("a", FLOOR, 1), stage("a", 10_000, 1.5), stage("a", 100_000, 3), stage("a", 1_000_000, 33)]
    assert exponents(taken) == {"a": pytest.approx(math.log10(16))}
    assert exponents([stage("b", FLOOR, 5), stage("b", 10_000, 4), stage("b", 100_000, 9)]) == {"b": None}


def test_extrapolation_by_hand() -> None:
    """1e5 touchpoints make 5e4 journeys, so 1e6 samples are 2e6 touchpoints: 20 times 36 s of CPU are 0.2 h."""
    taken = [
        stage("build_journeys", FLOOR, 1),
        stage("build_journeys", 100_000, 36, rows=50_000, stored_bytes=10**9),
        stage("train", FLOOR, 1),
        stage("train", 100_000, 72),
    ]
    scale = extrapolate(taken, samples=1_000_000, price=2)
    assert (scale.touches_a_sample, scale.touches) == (2, 2_000_000)
    built, trained = scale.stages
    assert built.core_hours == pytest.approx(0.2)
    assert built.cost == pytest.approx(0.4)
    assert built.stored_tb == pytest.approx(0.02)
    assert trained.core_hours == pytest.approx(0.4)


@pytest.mark.slow
def test_a_tiny_run_writes_what_repeats_it(tmp_path: Path) -> None:
    """Limits of such a run mean nothing, so its exit code is not looked at."""
    sizes = ["--rows", "5000", "--entities", "500", "--journeys", "1000", "--repetitions", "1", "--turns", "1"]
    cli.main([*sizes, "--sizes", "4000", "--name", "tiny", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "tiny.json").read_text())
    assert set(result["contests"]) == set(cli.CONTESTS)
    assert set(result["stages"]["exponents"]) == set(stages.STAGES)
    assert len(result["stages"]["costs"]) == 2 * len(stages.STAGES)
    assert result["command"].startswith("alm-mta benchmark speed --rows 5000 --entities 500")
    table = (tmp_path / "tiny.md").read_text()
    assert result["command"] in table
    assert re.search(r"\| retrieval \| 500 entities, 5,000 rows \| every entity row once, .* \| yes \|", table)
    assert "| train | " in table
    assert "</svg>" in (tmp_path / "tiny-stages.svg").read_text()


def test_contestants_of_retrieval_do_the_same_work(tmp_path: Path) -> None:
    """On the deduplicated view. With ties they need not, and what is created later is hidden."""
    retrieval.write_tables(tmp_path, entities=300, rows=2_000)

    def answer(side: str, **arguments: Any) -> Any:
        return measure(f"benchmarks.speed.retrieval:{side}", {"folder": str(tmp_path), **arguments}).answer

    rows, _ = same = answer("ours", table="deduplicated")
    assert rows == 300
    assert same == answer("plain", table="deduplicated")
    assert answer("ours", table="ties") != answer("ours", table="ties", cut_off=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--contests", "swimming"], "--contests swimming: there are retrieval"),
        (["--contests", "none", "--stages", "sleep"], "--stages sleep: there are open_logs"),
        (["--contests", "none", "--sizes", "many"], "--sizes many: write numbers"),
        (["--contests", "none", "--sizes", "10"], "--sizes 10: must be above 2,000"),
        (["--rows", "1"], "--rows 1: must be from 1,000"),
        (["--price", "-1"], "--price -1.0: must not be negative"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        cli.main(arguments)
