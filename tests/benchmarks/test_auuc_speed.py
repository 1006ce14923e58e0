"""The ratios are of the seconds they name, limits are judged by them, and the contestants do the same work."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import auuc_speed as speed


def seconds(**cpu_s: float) -> dict[str, Any]:
    """Wall is twice the CPU time."""
    return {"seconds": {name: {"wall_s": 2 * value, "cpu_s": value} for name, value in cpu_s.items()}}


def a_row(auuc: float) -> dict[str, Any]:
    costs = seconds(bare=1, bare_unordered=0.5, auuc=auuc, qini=1.2, causalml_auuc=6, causalml_qini=2.3)
    return costs | {"gap_to_causalml": 1e-9 * auuc}


def a_bootstrap(peak_mib: float) -> dict[str, Any]:
    return seconds(point_pass=4, replicates=1, bootstrap=11, **{"pass": 10}) | {"peak_mib": peak_mib}


def test_ratios_by_hand() -> None:
    """AUUC takes 1, 1.5 and 3 of bare's seconds: median 1.5 keeps 1.6, 1.7 would not; causalml's Qini is 1.9 times."""
    rows = [a_row(auuc) for auuc in (3, 1, 1.5)]
    summary = speed.summarise(rows, [a_bootstrap(peak) for peak in (100, 300, 200)])
    ratio = {row["ratio"]: row for row in summary["ratios"]}
    assert ratio["AUUC / bare"]["cpu_s"] == {"median": 1.5, "min": 1, "max": 3}
    assert ratio["AUUC / bare"]["met"]
    assert ratio["causalml's AUUC / AUUC"]["wall_s"] == {"median": 4, "min": 2, "max": 6}
    assert not ratio["causalml's Qini / Qini"]["met"]
    assert ratio["(pass + replicates) / pass"]["wall_s"]["median"] == pytest.approx(1.1)
    assert ratio["(pass + replicates) / pass with one shard"]["cpu_s"]["median"] == pytest.approx(2.75)
    assert summary["bootstrap_peak_mib"] == {"median": 200, "min": 100, "max": 300, "limit": 2_048, "met": True}
    assert summary["gap_to_causalml"] == pytest.approx(3e-9)
    slower = speed.summarise([a_row(1.7)], [a_bootstrap(2_049)])
    assert not slower["ratios"][0]["met"]
    assert not slower["bootstrap_peak_mib"]["met"]


def test_missed_limits_are_said() -> None:
    made = {"command": "c", "machine": {"cores": 2, "architecture": "a"}, "versions": {"numpy": "2"}}
    summary = speed.summarise([a_row(1.7)], [a_bootstrap(100)])
    table = speed.to_markdown(made | {"rows": 10, "repeats": 1, "summary": summary})
    assert re.search(r"\| AUUC / bare \| 1.70 .* \| at most 1.6 \| \*\*no\*\* \|", table)
    assert re.search(r"\| Qini / bare \| 1.20 .* \| at most 1.6 \| yes \|", table)
    assert re.search(r"\| causalml's Qini / Qini \| 1.92 .* \| at least 2 \| \*\*no\*\* \|", table)
    assert "| AUUC / bare, unordered |" in table


def test_contestants_agree() -> None:
    pytest.importorskip("causalml", reason="causalml comes with the extra 'bench'")
    measured = speed.measure_rows(5_000, seed=1)
    assert measured["gap_to_causalml"] < 1e-9
    assert measured["qini"] > 0
    assert all(cost["wall_s"] > 0 for cost in measured["seconds"].values())


def test_chunks_hold_every_user_once_and_the_bootstrap_is_the_spread_between_worlds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The true order of clusters has a positive area whose bootstrap s.e. is its s.d. over fresh draws of users."""
    pytest.importorskip("threadpoolctl", reason="threadpoolctl comes with the extra 'bench'")
    monkeypatch.setattr(speed, "CHUNK", 3_000)
    monkeypatch.setattr(speed, "REPLICATES", 100)
    measured = [speed.measure_bootstrap(10_000, seed) for seed in range(30)]
    areas, errors = np.array([[m["area"], m["se"]] for m in measured]).T
    assert areas.mean() > 10 * areas.std() / np.sqrt(30)
    assert errors.mean() / areas.std(ddof=1) == pytest.approx(1, abs=0.35)
    assert all(m["seconds"]["bootstrap"]["wall_s"] > m["seconds"]["pass"]["wall_s"] > 0 for m in measured)


def test_a_run_writes_what_repeats_it(tmp_path: Path) -> None:
    pytest.importorskip("causalml", reason="causalml comes with the extra 'bench'")
    assert speed.main(["--rows", "2000", "--repeats", "1", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "auuc_speed.json").read_text())
    assert result["command"] == f"python -m benchmarks.auuc_speed --rows 2000 --repeats 1 --out {tmp_path}"
    assert result["measured"]["bootstrap"][0]["peak_mib"] > 20
    table = (tmp_path / "auuc_speed.md").read_text()
    assert result["command"] in table
    assert len(re.findall(r"(?m)^\| .+ \| (yes|\*\*no\*\*) \|$", table)) == 7


def test_too_few_rows_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        speed.main(["--rows", "10"])
    assert "--rows 10" in capsys.readouterr().err
