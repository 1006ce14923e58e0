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
    from benchmarks.judge.cases import Case
    from benchmarks.judge.runner import Trial
    from validation.worlds import World

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
    parser.add_argument(
        "--battery",
        type=int,
        default=100,
        help="data sets a case of the battery's tests (benchmarks/judge/cases.py)",
    )
    parser.add_argument("--cases", type=str, default="", help="comma-separated; all unless given")
    parser.add_argument("--worlds", type=str, default=",".join(WORLDS), help="comma-separated")
    parser.add_argument("--trained", type=str, default=",".join(TRAINED), help="methods of benchmark accuracy")
    add_set(parser)
    add_records(parser, work="work/benchmark-judge", unnamed="the set", fresh="compute anew, whatever is kept")
    return parser


def _trials(options: Namespace) -> Iterator[Trial]:
    """Size after size, seed after seed, so that an early look finds every world; then the battery's cases."""
    from benchmarks.accuracy.unit import FIRST_SEED
    from benchmarks.judge.runner import Trial

    known, first = _known(options), FIRST_SEED[options.set]
    worlds = chosen("--worlds", options.worlds, known)
    trained, asked = _trained(options.trained), _cases(options)
    made = set()
    for users, seeds in _sizes(options.sizes):
        for number in range(seeds):
            for name, world in worlds.items():
                made.add((name, users, first + number))
                yield Trial(
                    world_set=options.set, name=name, world=world, users=users, seed=first + number, trained=trained
                )
    for number in range(options.battery):
        for name, case in asked.items():
            if (name, case.users, first + number) not in made:
                yield Trial(
                    world_set=options.set, name=name, world=case.world, users=case.users, seed=first + number,
                    case=True, broken=case.broken, lookback_days=case.lookback_days,
                )  # fmt: skip


def _known(options: Namespace) -> dict[str, World]:
    from validation.worlds import JUDGE_REPORT_WORLDS, JUDGE_WORLDS, REPORT_WORLDS, WORLDS

    check_set(options.set)
    return REPORT_WORLDS | JUDGE_REPORT_WORLDS if options.set == "report" else WORLDS | JUDGE_WORLDS


def _cases(options: Namespace) -> dict[str, Case]:
    from benchmarks.judge.cases import cases

    if not 0 <= options.battery <= 1_000:
        raise ConfigError(f"--battery {options.battery}: must be from 0 to 1,000")
    return chosen("--cases", options.cases, cases(_known(options)))


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
    from benchmarks.judge.summary import powers, summarise
    from benchmarks.judge.targets import against_targets
    from benchmarks.provenance import provenance

    records = {trial: read(trial, options.work) for trial in trials}
    ranked = [trial for trial in trials if not trial.case]
    sizes: list[dict[str, Any]] = []
    for users in dict.fromkeys(trial.users for trial in ranked):
        ours = [trial for trial in ranked if trial.users == users]
        of = {name: [records[trial] for trial in ours if trial.name == name] for name in _names(ours)}
        worlds = {name: summarise(found) for name, found in of.items()}
        sizes.append({"users": users, "worlds": worlds, "targets": against_targets(of)})
    of_cases = {
        name: [records[trial] for trial in trials if (trial.name, trial.users) == (name, case.users)]
        for name, case in _cases(options).items()
    }
    words = ["alm-mta", "benchmark", "judge", "--set", options.set, "--sizes", options.sizes]
    words += ["--worlds", options.worlds, "--trained", options.trained, "--battery", str(options.battery)]
    words += ["--cases", options.cases] if options.cases else []
    result = {
        **provenance("benchmarks.judge", [], PACKAGES),
        "command": shlex.join(words),
        "settings": {
            "set": options.set,
            "first_seed": FIRST_SEED[options.set],
            "rankings": records[ranked[0]]["rankings"],
        },
        "sizes": sizes,
        "powers": powers(of_cases),
    }
    texts = {".json": to_json(result, depth=5), ".md": to_markdown(result)}
    return write_texts(options.out, f"judge-{options.name or options.set}", texts)


def _names(trials: list[Trial]) -> list[str]:
    return list(dict.fromkeys(trial.name for trial in trials))
