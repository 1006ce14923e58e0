"""One `alm-mta run` on a simulated world, its credits held against the known truth beside the naive baseline's.

`python -m benchmarks.end_to_end --users 80000 --seed 101` writes end_to_end-<world>-<users>.json and .md: verdict,
metrics and seconds of the run's own result.json, without paths.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.output import RESULTS, write_result
from benchmarks.speed_stages import provenance
from features.files import read_json

KEPT = ("verdict", "approved", "reasons", "model", "metrics", "timings")
SHOWN = {
    "correlation with the true effects": ("truth_corr", "truth_corr_naive", "truth_corr_last_touch"),
    "slope of truth on estimate": ("truth_slope", "truth_slope_naive", "truth_slope_last_touch"),
    "PEHE / sd of the truth": ("truth_pehe_over_sd", "truth_pehe_over_sd_naive", "truth_pehe_over_sd_last_touch"),
    "rank correlation over clusters": (
        "truth_cluster_spearman", "truth_cluster_spearman_naive", "truth_cluster_spearman_last_touch",
    ),
    "effect of the top 1% of touches, times the mean": (
        "top1_efficiency", "top1_efficiency_naive", "top1_efficiency_last_touch",
    ),
    "AUUC against the truth (½ random, 1 oracle)": (
        "auuc_candidate_truth", "auuc_naive_truth", "auuc_last_touch_truth",
    ),
}  # fmt: skip


def run_world(work: Path, world: str, users: int, seed: int) -> dict[str, Any]:
    """Simulate and run with the default configuration; the run's result without what names this machine."""
    alm_mta = [sys.executable, "-m", "pipelines.cli"]
    what = ["--world", world, "--users", str(users), "--seed", str(seed)]
    subprocess.run([*alm_mta, "simulate", *what, "--out", str(work / "logs")], check=True)
    run = [*alm_mta, "run", "--logs", str(work / "logs"), "--workdir", str(work / "run")]
    subprocess.run(run, check=False)  # its verdict is the result, not its exit code
    result = read_json(work / "run" / "result.json")
    return {key: result[key] for key in KEPT}


def to_markdown(result: dict[str, Any]) -> str:
    """The result as a table under the command that made it."""
    world, metrics = result["world"], result["metrics"]
    lines = [
        f"# {world['users']:,} users of world '{world['name']}', seed {world['seed']}",
        "",
        f"`{result['command']}` on {result['machine']['cores']} cores; verdict **{result['verdict']}** "
        f"({result['reasons'][0]}) after {result['timings']['total']:.0f} s.",
        "",
        "| against the known truth | front door | naive leave-one-out | last touch |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {label} | " + " | ".join(f"{metrics[name]:.3f}" for name in names) + " |"
        for label, names in SHOWN.items()
        if all(name in metrics for name in names)
    ]
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    """Run the world and write the result; 0 whatever the verdict."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=__doc__)
    parser.add_argument("--world", default="logit", help="name of the world (default: %(default)s)")
    parser.add_argument("--users", type=int, default=20_000, help="users to simulate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=101, help="seed of the world (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "-m", "benchmarks.end_to_end", *given])
    with tempfile.TemporaryDirectory(prefix="alm-mta-bench-") as work:
        ran = run_world(Path(work), options.world, options.users, options.seed)
    result = provenance(command, options.users, options.seed, options.world) | ran
    write_result(options.out, f"end_to_end-{options.world}-{options.users}", result, to_markdown(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
