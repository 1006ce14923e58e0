"""The command `alm-mta benchmark judge`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from benchmarks.choice import add_records, add_set, check_set, chosen
from benchmarks.output import write_texts
from features.errors import ConfigError
from pipelines.cli_parser import parser_for

if TYPE_CHECKING:
    from benchmarks.judge.runner import Trial

DESCRIPTION = (
    "Show every evaluation protocol, and the gate, rankings of known quality on worlds with known truth; write "
    "judge-NAME.json and .md. What has been computed is kept under --work, by settings but not by code: called again, "
    "also after an interruption, it computes what is missing."
)
WORLDS = (
    "logit", "saturating", "same-direction", "no-confounding", "variable-length", "contaminated", "direct-path",
    "feedback", "noisy-control", "leaky-response", "direct-path-and-feedback",
)  # fmt: skip
TRAINED = ("last-touch", "logistic-regression", "gradient-boosting")


def main(arguments: list[str]) -> int:
    """Every evaluation protocol on rankings of known quality: pairs right, wrong promotions, wrong refusals."""
    options = _parser().parse_args(arguments)
    trials = list(_trials(options))

    from rich.console import Console

    from benchmarks.judge.runner import missing, run_trials
    from benchmarks.progress import progress
    from pipelines.workdir import only_run_in

    with only_run_in(options.work):
        todo = missing(trials, options.work, fresh=options.fresh)
        console = Console(stderr=True)
        console.print(f"{len(todo)} of {len(trials)} data sets to judge; workers write to {options.work / 'log.txt'}")
        with progress("judge", max(len(todo), 1), console) as tell:
            run_trials(todo, options.work, min(options.jobs, max(len(todo), 1)), tell)
    paths = _write(options, trials)
    sys.stdout.write(f"wrote {', '.join(map(str, paths))}\n")
    return 0


def _parser() -> ArgumentParser:
    parser = parser_for("benchmark judge", DESCRIPTION)
    parser.add_argument(
        "--sizes", type=str, default="22000:30,88000:8,440000:1",
        help="comma-separated USERS:SEEDS; 22,000 users make about 50,000 judged journeys",
    )  # fmt: skip
    parser.add_argument("--worlds", type=str, default=",".join(WORLDS), help="comma-separated")
    parser.add_argument("--trained", type=str, default=",".join(TRAINED), help="methods of benchmark accuracy")
    add_set(parser)
    add_records(parser, work="work/benchmark-judge", unnamed="the set", fresh="compute anew, whatever is kept")
    return parser


def _trials(options: Namespace) -> Iterator[Trial]:
    """Size after size, seed after seed, so that an early look finds every world."""
    from benchmarks.accuracy.unit import FIRST_SEED
    from benchmarks.judge.runner import Trial
    from validation.worlds import JUDGE_REPORT_WORLDS, JUDGE_WORLDS, REPORT_WORLDS, WORLDS

    check_set(options.set)
    known = REPORT_WORLDS | JUDGE_REPORT_WORLDS if options.set == "report" else WORLDS | JUDGE_WORLDS
    worlds = chosen("--worlds", options.worlds, known)
    trained = _trained(options.trained)
    for users, seeds in _sizes(options.sizes):
        for number in range(seeds):
            for name, world in worlds.items():
                yield Trial(
                    world_set=options.set, name=name, world=world, users=users,
                    seed=FIRST_SEED[options.set] + number, trained=trained,
                )  # fmt: skip


def _trained(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    from benchmarks.methods import METHODS  # many packages

    return tuple(chosen("--trained", text, METHODS))


def _sizes(text: str) -> list[tuple[int, int]]:
    try:
        sizes = [(int(users), int(seeds)) for users, seeds in (part.split(":") for part in text.split(","))]
    except ValueError:
        raise ConfigError(f"--sizes {text}: write USERS:SEEDS, as 22000:30,88000:8") from None
    for users, seeds in sizes:
        if not (100 <= users <= 10**7 and 1 <= seeds <= 1_000):
            raise ConfigError(f"--sizes {users}:{seeds}: users must be from 100 to 10,000,000, seeds from 1 to 1,000")
    return sizes


def _write(options: Namespace, trials: list[Trial]) -> list[Path]:
    from benchmarks.accuracy.result import PACKAGES, to_json
    from benchmarks.accuracy.unit import FIRST_SEED
    from benchmarks.judge.report import to_markdown
    from benchmarks.judge.runner import read
    from benchmarks.judge.summary import summarise
    from benchmarks.provenance import provenance

    records = {trial: read(trial, options.work) for trial in trials}
    sizes: list[dict[str, Any]] = []
    for users in dict.fromkeys(trial.users for trial in trials):
        ours = [trial for trial in trials if trial.users == users]
        worlds = {
            name: summarise([records[trial] for trial in ours if trial.name == name])
            for name in dict.fromkeys(trial.name for trial in ours)
        }
        sizes.append({"users": users, "worlds": worlds})
    words = ["alm-mta", "benchmark", "judge", "--set", options.set, "--sizes", options.sizes]
    words += ["--worlds", options.worlds, "--trained", options.trained]
    result = {
        **provenance("benchmarks.judge", [], PACKAGES),
        "command": shlex.join(words),
        "settings": {
            "set": options.set,
            "first_seed": FIRST_SEED[options.set],
            "rankings": next(iter(records.values()))["rankings"],
        },
        "sizes": sizes,
    }
    texts = {".json": to_json(result, depth=5), ".md": to_markdown(result)}
    return write_texts(options.out, f"judge-{options.name or options.set}", texts)
