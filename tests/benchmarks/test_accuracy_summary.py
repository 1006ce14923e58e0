"""Means and intervals over seeds by hand; the Markdown says what the JSON says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy.figures import figures
from benchmarks.accuracy.report import to_markdown
from benchmarks.accuracy.result import to_json
from benchmarks.accuracy.summary import Difference, paired_difference, spreads, summarise, verdict
from benchmarks.accuracy.unit import ORACLE
from benchmarks.methods import Method, Scores

T_975_2 = 4.302653
"""97.5% quantile of Student's t with 2 degrees of freedom."""


def _never(*_: Any) -> Scores:
    raise AssertionError


def _method(name: str, family: Any) -> Method:
    return Method(name=name, family=family, source="a test", run=_never)


METHODS = {
    "alm-mta": _method("alm-mta", "ours"),
    "paper": _method("paper", "ours"),
    "deep": _method("deep", "back-door"),
    "dml": _method("dml", "back-door"),
    "last-touch": _method("last-touch", "heuristic"),
}


def records(**figures: list[float]) -> dict[int, dict[str, Any]]:
    """seed 501, 502, ... -> a record."""
    seeds = range(len(next(iter(figures.values()))))
    return {501 + s: {"figures": {name: values[s] for name, values in figures.items()}} for s in seeds}


OURS = records(correlation=[0.8, 0.9, 1.0], auuc_bucket_1=[0.9, 0.9, 0.9], auuc_bucket_2=[0.8, 0.8, 0.8])
CELLS = {
    ("flat", "alm-mta"): OURS,
    ("flat", "paper"): OURS,
    ("flat", "deep"): records(
        correlation=[0.7, 0.7, 0.7], auuc_bucket_1=[0.8, 0.8, 0.8], auuc_bucket_2=[0.7, 0.7, 0.7]
    ),
    ("flat", "dml"): records(
        correlation=[0.1, 0.2, 0.3], auuc_bucket_1=[0.7, 0.7, 0.7], auuc_bucket_2=[0.75, 0.79, 0.83]
    ),
    ("flat", "last-touch"): {501: {"failed": "ValueError: no"}, 502: {"failed": "ValueError: no"}},
    ("flat", ORACLE): {501: {"figures": {"correlation": 1.0}, "holds": {"fit_journeys": 10}},
                       502: {"figures": {"correlation": 1.0}, "holds": {"fit_journeys": 13}}},
}  # fmt: skip


def test_mean_and_standard_deviation_over_seeds() -> None:
    spread = spreads(OURS)["correlation"]
    assert (spread.mean, spread.sd) == pytest.approx((0.9, 0.1))
    assert spreads({501: {"figures": {"correlation": 0.4}}})["correlation"].sd is None


def test_paired_difference_is_taken_seed_by_seed() -> None:
    """Differences .1, .2, .3: mean .2, sd .1, half width t · .1 / √3."""
    found = paired_difference(OURS, CELLS["flat", "deep"], "correlation")
    half = T_975_2 * 0.1 / np.sqrt(3)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.2 - half, 0.2 + half))
    assert found.outcome == "ties"


def test_seeds_that_one_side_lacks_do_not_count() -> None:
    found = paired_difference(OURS, {502: {"figures": {"correlation": 0.5}}, 503: {"failed": "x"}}, "correlation")
    assert found == Difference(mean=pytest.approx(0.4), low=None, high=None)
    assert paired_difference(OURS, CELLS["flat", "last-touch"], "correlation") is None


@pytest.mark.parametrize(
    ("low", "mean", "high", "outcome"),
    [(0.01, 0.1, 0.2, "loses"), (-0.01, 0.1, 0.2, "ties"), (-0.2, -0.1, -0.01, "wins"), (0.0, 0.1, 0.2, "ties"),
     (None, 0.1, None, "loses"), (None, -0.1, None, "wins"), (None, 0.0, None, "ties")],
)  # fmt: skip
def test_what_a_peer_does(low: float | None, mean: float, high: float | None, outcome: str) -> None:
    assert Difference(mean=mean, low=low, high=high).outcome == outcome


def test_verdict_names_every_peer_that_is_not_beaten() -> None:
    """deep ties on correlation only; dml on bucket 2, where ours minus its .75, .79, .83 contains zero."""
    found = verdict("flat", CELLS, METHODS)
    assert found["not_beaten"] == {"deep": {"correlation": "ties"}, "dml": {"auuc_bucket_2": "ties"}}
    assert found["sentence"] == (
        "flat: deep ties on correlation (0.700 against 0.900); dml ties on AUUC in bucket 2."
    )  # fmt: skip


def test_verdict_of_a_world_without_effect() -> None:
    silent = {(w, m): {501: {"figures": {"rmse": 0.1}}} for (w, m) in CELLS}
    assert verdict("flat", silent, METHODS)["sentence"].startswith("flat: content has no effect here")


def test_gain_is_over_the_back_door_peer_that_is_best_in_that_bucket() -> None:
    gains = {gain["figure"]: gain for gain in summarise(CELLS, ["flat"], METHODS)["back_door_gain"]}
    assert {name: (gain["peer"], gain["mean"]) for name, gain in gains.items()} == {
        "auuc_bucket_1": ("deep", 0.1),
        "auuc_bucket_2": ("dml", 0.01),
    }


def result() -> dict[str, Any]:
    return {
        "command": "alm-mta benchmark accuracy --users 100",
        "machine": {"cores": 2, "architecture": "x", "system": "y"},
        "versions": {"numpy": "2"},
        "settings": {"set": "report", "users": 100, "seeds": [501, 502, 503], "randomised_share": 0.0},
        "methods": {name: {"family": method.family, "source": method.source} for name, method in METHODS.items()},
        "worlds": {"flat": {"family": "LogitWorld", "front_door_holds": False, "confounded": True, "parameters": {}}},
        **summarise(CELLS, ["flat"], METHODS),
    }


def test_markdown_says_what_the_json_says() -> None:
    text = to_markdown(result())
    assert "`alm-mta benchmark accuracy --users 100`" in text
    assert "| alm-mta | 0.90 ± 0.10 |" in text  # correlation
    assert "| alm-mta | 0.800 |" in text  # AUUC of the worst bucket
    assert "| last-touch | failed |" in text
    assert "- flat: deep ties on correlation" in text
    assert "| flat | 1 | deep | +0.100 | +0.100 to +0.100 |" in text
    assert "front door is violated; confounded; fit journeys 11.5." in text
    assert "- last-touch on flat, seed 502: ValueError: no" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    order = [line.split("|")[1].strip() for line in lines[2:8]]
    assert order == ["alm-mta", "paper", "deep", "dml", "last-touch", "oracle"]


def test_json_is_whole_and_has_a_row_a_line() -> None:
    text = to_json(result())
    assert json.loads(text) == result()
    rows = [line for line in text.splitlines() if '"method": "dml"' in line]
    assert len(rows) == 1
    assert json.loads(rows[0].rstrip(","))["mean"]["correlation"] == 0.2


def test_figures_are_the_same_every_time_and_name_methods_and_worlds() -> None:
    drawn = figures(result())
    assert drawn == figures(result())
    assert set(drawn) == {"correlation", "auuc"}
    assert all(f">{name}<" in drawn["correlation"] for name in (*METHODS, "flat"))
    assert ">.90<" in drawn["correlation"]
    assert ">flat<" in drawn["auuc"]


def test_no_figure_where_nothing_can_be_ranked() -> None:
    empty = result() | {"results": [row | {"mean": {}} for row in result()["results"]]}
    assert figures(empty) == {}
