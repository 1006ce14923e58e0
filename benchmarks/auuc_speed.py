"""AUUC against its limits: rows beside a bare sort and causalml, 200 bootstrap replicates beside one pass.

`python -m benchmarks.auuc_speed` writes auuc_speed.json and auuc_speed.md.

Rows: validation.uplift_curves beside `order = np.argsort(score)` with the cumulative sums of treated and outcome in
that order (bare), the same with the sums in the order of the rows (bare, unordered: less than any ranking needs), and
causalml's auuc_score and qini_score on a frame made beforehand. All see the same arrays; who goes first rotates.
Bootstrap: users stream by in chunks; one pass is CellSums.add of every chunk, replicates are everything after it
(weights, uplift and area of each). The pass is also taken with one shard, which is what a point estimate alone needs.
Chunks are made untimed. Each repeat is a process of its own, whose peak memory is its largest resident set; as Linux
lets a child begin with its parent's peak, the parent holds no data.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.output import RESULTS, write_result
from benchmarks.provenance import headline, provenance
from validation.auuc import area_per_bucket, positions
from validation.cell_sums import CellSums
from validation.shards import draw_replicates
from validation.uplift_curves import auuc_score, qini_score

logger = logging.getLogger(__name__)

SHARDS, BUCKETS, CLUSTERS, TOUCHES, REPLICATES = 1_000, 5, 40, 12, 200
CHUNK = 100_000
LEAST_ROWS = 1_000

Seconds = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A ratio of two costs, and how large it may (or must) be."""

    name: str
    above: str
    below: str
    most: float | None = None
    least: float | None = None

    def keeps(self, ratio: float) -> bool:
        """Whether the ratio is within the limit."""
        return (self.most is None or ratio <= self.most) and (self.least is None or ratio >= self.least)

    @property
    def text(self) -> str:
        """The limit in words."""
        return f"at most {self.most:g}" if self.most else f"at least {self.least:g}" if self.least else "none"


LIMITS = (
    Limit(name="AUUC / bare", above="auuc", below="bare", most=1.6),
    Limit(name="Qini / bare", above="qini", below="bare", most=1.6),
    Limit(name="AUUC / bare, unordered", above="auuc", below="bare_unordered"),
    Limit(name="causalml's AUUC / AUUC", above="causalml_auuc", below="auuc", least=2),
    Limit(name="causalml's Qini / Qini", above="causalml_qini", below="qini", least=2),
    Limit(name="(pass + replicates) / pass", above="bootstrap", below="pass", most=3),
    Limit(name="(pass + replicates) / pass with one shard", above="bootstrap", below="point_pass", most=3),
)
PEAK_MIB = 2_048


class Clock:
    """Wall and CPU seconds of the bodies it timed, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, Seconds] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the body's cost to the name's."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        spent = self.seconds.setdefault(name, {"wall_s": 0.0, "cpu_s": 0.0})
        spent["wall_s"] += time.perf_counter() - wall
        spent["cpu_s"] += time.process_time() - cpu


def measure_rows(rows: int, seed: int) -> dict[str, Any]:
    """Cost of every contestant on one drawn ranking, and their values."""
    import pandas as pd
    from causalml import metrics

    rng = np.random.default_rng(seed)
    score_N, treated_N = rng.normal(size=rows), rng.random(rows) < 0.5
    y_N = (rng.random(rows) < 0.1 + 0.02 * treated_N * (1 + score_N.clip(-2, 2))).astype(np.float64)
    frame = pd.DataFrame({"score": score_N, "w": treated_N.astype(np.int64), "y": y_N})

    def bare() -> None:
        order_N = np.argsort(score_N)
        np.cumsum(treated_N[order_N])
        np.cumsum(y_N[order_N])

    def bare_unordered() -> None:
        np.argsort(score_N)
        np.cumsum(treated_N)
        np.cumsum(y_N)

    contestants: dict[str, Callable[[], Any]] = {
        "bare": bare,
        "bare_unordered": bare_unordered,
        "auuc": lambda: auuc_score(score_N, treated_N, y_N),
        "qini": lambda: qini_score(score_N, treated_N, y_N),
        "causalml_auuc": lambda: float(metrics.auuc_score(frame)["score"]),
        "causalml_qini": lambda: float(metrics.qini_score(frame)["score"]),
    }
    bare()  # pages and caches warm, for whoever goes first
    clock, values = Clock(), {}
    names = list(contestants)
    for name in names[seed % len(names) :] + names[: seed % len(names)]:
        with clock.timed(name):
            values[name] = contestants[name]()
    gaps = [abs(values[name] - values[f"causalml_{name}"]) for name in ("auuc", "qini")]
    return {
        "seed": seed,
        "seconds": clock.seconds,
        "auuc": values["auuc"],
        "qini": values["qini"],
        "gap_to_causalml": max(gaps),
    }


def user_chunk(users: int, seed: int, chunk: int) -> dict[str, Any]:
    """Journeys of a chunk, one a user, as CellSums.add takes them; clusters differ in share and in effect."""
    rng = np.random.default_rng([seed, chunk])
    effect_K = np.linspace(0.3, 0.0, CLUSTERS)
    column_JL = (CLUSTERS * rng.random((users, TOUCHES)) ** 1.5).astype(np.int64)
    bucket_J = rng.integers(0, BUCKETS, users)
    return {
        "shard_J": rng.integers(0, SHARDS, users),
        "bucket_J": bucket_J,
        "y_J": (rng.random(users) < 0.02 * (1 + bucket_J) + effect_K[column_JL].mean(axis=1)).astype(np.float64),
        "journey_T": np.repeat(np.arange(users), TOUCHES),
        "column_T": column_JL.ravel(),
    }


def measure_bootstrap(users: int, seed: int) -> dict[str, Any]:
    """Cost of the pass and of the replicates' areas, the ranking being the clusters' true order."""
    from threadpoolctl import threadpool_limits

    sums = CellSums.zeros(shards=SHARDS, buckets=BUCKETS, clusters=CLUSTERS)
    point = CellSums.zeros(shards=1, buckets=BUCKETS, clusters=CLUSTERS)
    clock = Clock()
    for number, start in enumerate(range(0, users, CHUNK)):
        chunk = user_chunk(min(CHUNK, users - start), seed, number)
        with clock.timed("pass"):
            sums.add(**chunk)
        chunk["shard_J"] = np.zeros_like(chunk["shard_J"])
        with clock.timed("point_pass"):
            point.add(**chunk)
    with threadpool_limits(1), clock.timed("replicates"):
        replicates = draw_replicates(SHARDS, REPLICATES, half_pairs=0, seed=seed)
        w_BK, pi_B = sums.exposure()
        s_BK = positions(np.broadcast_to(-np.arange(CLUSTERS), w_BK.shape), w_BK)
        area_R = area_per_bucket(sums.uplift(replicates), s_BK, w_BK) @ pi_B
    once, after = clock.seconds["pass"], clock.seconds["replicates"]
    return {
        "seed": seed,
        "seconds": clock.seconds | {"bootstrap": {kind: once[kind] + after[kind] for kind in once}},
        "area": float(area_R[0]),
        "se": float(area_R[replicates.boot].std(ddof=1)),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_child(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Its result from a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def summarise(rows: list[dict[str, Any]], bootstraps: list[dict[str, Any]]) -> dict[str, Any]:
    """Every limit's ratio, and the seconds behind it: median, least and largest over the repeats."""
    runs = [row["seconds"] | bootstrap["seconds"] for row, bootstrap in zip(rows, bootstraps, strict=True)]
    ratios = []
    for limit in LIMITS:
        spread = {
            kind: _spread([run[limit.above][kind] / run[limit.below][kind] for run in runs])
            for kind in ("wall_s", "cpu_s")
        }
        kept = all(limit.keeps(value["median"]) for value in spread.values())
        ratios.append({"ratio": limit.name, "limit": limit.text, "met": kept} | spread)
    seconds = {
        name: {kind: _spread([run[name][kind] for run in runs]) for kind in ("wall_s", "cpu_s")} for name in runs[0]
    }
    peak = _spread([bootstrap["peak_mib"] for bootstrap in bootstraps])
    return {
        "ratios": ratios,
        "seconds": seconds,
        "bootstrap_peak_mib": peak | {"limit": PEAK_MIB, "met": peak["max"] <= PEAK_MIB},
        "gap_to_causalml": max(row["gap_to_causalml"] for row in rows),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


def to_markdown(result: dict[str, Any]) -> str:
    """The summary as tables under the command that made it."""
    summary, peak = result["summary"], result["summary"]["bootstrap_peak_mib"]
    lines = [
        "# AUUC: rows beside a bare sort and causalml, bootstrap beside one pass",
        "",
        headline(result),
        "",
        f"{result['rows']:,} rows, and as many users of {TOUCHES} touches; median of {result['repeats']} repeats "
        "(least to largest), each a process of its own. A limit is met where the medians of wall and CPU time both "
        "keep it. Bare: np.argsort and the cumulative sums of treated and outcome in that order; unordered: the sums "
        "without the order, shown because it is less than any ranking needs. One pass: the sums of every shard, "
        f"bucket and cluster; replicates: {REPLICATES} areas from them ({SHARDS:,} shards, {BUCKETS} buckets, "
        f"{CLUSTERS} clusters); with one shard: what a point estimate alone needs.",
        "",
        "| ratio | wall | CPU | limit | met |",
        "|---|---:|---:|---|---|",
    ]
    for row in summary["ratios"]:
        met = "" if row["limit"] == "none" else "yes" if row["met"] else "**no**"
        lines.append(f"| {row['ratio']} | {_shown(row['wall_s'])} | {_shown(row['cpu_s'])} | {row['limit']} | {met} |")
    lines += [
        f"| bootstrap's peak memory, MiB | {_shown(peak, ',.0f')} | | at most {peak['limit']:,} "
        f"| {'yes' if peak['met'] else '**no**'} |",
        "",
        f"Largest difference from causalml's values: {summary['gap_to_causalml']:.0e}.",
        "",
        "| seconds | wall | CPU |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {name} | {_shown(value['wall_s'], '.3f')} | {_shown(value['cpu_s'], '.3f')} |"
        for name, value in summary["seconds"].items()
    ]
    return "\n".join([*lines, ""])


def _shown(value: dict[str, float], form: str = ".2f") -> str:
    return f"{value['median']:{form}} ({value['min']:{form}} to {value['max']:{form}})"


def main(arguments: list[str] | None = None) -> int:
    """Measure every repeat and write the results; 0 done, whether or not limits are met."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.auuc_speed", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows, and users (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="draws of each (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    if options.rows < LEAST_ROWS or options.repeats < 1:
        parser.error(f"--rows {options.rows} must be at least {LEAST_ROWS}, --repeats {options.repeats} at least 1")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    rows, bootstraps = [], []
    for seed in range(options.repeats):
        rows.append(in_child(measure_rows, options.rows, seed))
        bootstraps.append(in_child(measure_bootstrap, options.rows, seed))
        logger.info("repeat %d of %d done", seed + 1, options.repeats)
    made = provenance("benchmarks.auuc_speed", arguments, ("alm-mta", "causalml", "numpy", "pandas"))
    result = made | {
        "rows": options.rows,
        "repeats": options.repeats,
        "summary": summarise(rows, bootstraps),
        "measured": {"rows": rows, "bootstrap": bootstraps},
    }
    logger.info("wrote %s", write_result(options.out, "auuc_speed", result, to_markdown(result)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
