"""The command `alm-mta benchmark accuracy`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from benchmarks.choice import add_records, add_set, check_set, chosen
from features.errors import ConfigError
from pipelines.cli_parser import parser_for

if TYPE_CHECKING:
    from benchmarks.accuracy.unit import Records, Unit
    from benchmarks.methods.interface import Method
    from validation.worlds import World

METHODS = "benchmarks.methods:METHODS"
DESCRIPTION = (
    "Run every attribution method on every world with known truth, and write accuracy-NAME.json, .md and figures. "
    "What has been computed is kept under --work: called again, also after an interruption, it computes what is "
    "missing, and tries what failed. It does not see changes of code: see --fresh. Exit code 1 where a method failed."
)


def main(arguments: list[str], methods_at: str = METHODS) -> int:
    """Every attribution method on every world with known truth, side by side."""
    options = _parser().parse_args(arguments)
    _check(options)

    import pkgutil

    from benchmarks.accuracy.result import result_of, write_result
    from benchmarks.accuracy.unit import Records
    from validation.worlds import REPORT_WORLDS, WORLDS

    worlds = chosen("--worlds", options.worlds, REPORT_WORLDS if options.set == "report" else WORLDS)
    methods: dict[str, Method] = chosen("--methods", options.methods, pkgutil.resolve_name(methods_at))
    units = _units(options, worlds)
    records = Records(root=options.work / "records")
    _compute(options, units, tuple(methods), records, methods_at)

    result = result_of(units, methods, records, _command(options))
    part = "-part" if options.worlds or options.methods else ""
    paths = write_result(result, options.name or f"{options.set}-{options.users}{part}", options.out)
    sys.stdout.write(f"wrote {', '.join(map(str, paths))}\n")
    failed = sum(len(row["failed"]) for row in result["results"])
    if failed:
        sys.stderr.write(f"error: {failed} runs failed: the end of {paths[1]} says why\n")
    return 1 if failed else 0


def _parser() -> ArgumentParser:
    parser = parser_for("benchmark accuracy", DESCRIPTION)
    parser.add_argument("--users", type=int, default=20_000, help="users of each data set")
    parser.add_argument("--seeds", type=int, default=5, help="data sets of each world; --set says from which seed on")
    parser.add_argument("--worlds", type=str, default="", help="comma-separated; all unless given")
    parser.add_argument("--methods", type=str, default="", help="comma-separated; all unless given")
    add_set(parser)
    parser.add_argument(
        "--randomised-share", type=float, default=0.0, help="share of touches whose exposure is drawn at random"
    )
    add_records(
        parser, work="work/benchmark-accuracy", unnamed="set and users",
        fresh="compute anew what is asked for, whatever is kept of it",
    )  # fmt: skip
    return parser


def _check(options: Namespace) -> None:
    check_set(options.set)
    for name, (least, most) in {"users": (100, 10**7), "seeds": (1, 100), "jobs": (1, 1024)}.items():
        if not least <= options[name] <= most:
            raise ConfigError(f"--{name} {options[name]}: must be from {least} to {most:,}")
    if not 0 <= options.randomised_share < 1:
        raise ConfigError(f"--randomised-share {options.randomised_share}: must be at least 0 and below 1")


def _command(options: Namespace) -> str:
    """The command that repeats the result, wherever it is kept and however many processes do it."""
    words = ["alm-mta", "benchmark", "accuracy"]
    for name in ("set", "users", "seeds", "worlds", "methods", "randomised_share", "name"):
        if options[name]:
            words += [f"--{name.replace('_', '-')}", str(options[name])]
    return shlex.join(words)


def _units(options: Namespace, worlds: Mapping[str, World]) -> list[Unit]:
    """Seed after seed, so that an early look finds every world."""
    from dataclasses import replace

    from benchmarks.accuracy.unit import FIRST_SEED, Unit

    return [
        Unit(
            world_set=options.set,
            name=name,
            world=replace(world, randomised_share=options.randomised_share),
            users=options.users,
            seed=FIRST_SEED[options.set] + number,
        )
        for number in range(options.seeds)
        for name, world in worlds.items()
    ]


def _compute(
    options: Namespace, units: Sequence[Unit], methods: Sequence[str], records: Records, methods_at: str
) -> None:
    """Have the records that are missing written."""
    import shutil

    from rich.console import Console

    from benchmarks.accuracy.runner import Workplace, run_tasks
    from benchmarks.accuracy.unit import ORACLE, open_tasks
    from benchmarks.progress import progress
    from pipelines.workdir import only_run_in

    scratch, log = options.work / "scratch", options.work / "log.txt"
    with only_run_in(options.work):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        tasks = open_tasks(units, (ORACLE, *methods), records, fresh=options.fresh)
        total = sum(len(task.methods) for task in tasks)
        console = Console(stderr=True)
        console.print(f"{total} of {len(units) * (len(methods) + 1)} records to compute; workers write to {log}")
        if tasks:
            place = Workplace(methods=methods_at, records=records, scratch=scratch, log=log)
            with progress("accuracy", total, console) as tell:
                run_tasks(tasks, place, min(options.jobs, len(tasks)), tell)
