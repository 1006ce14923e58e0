"""The command `alm-mta benchmark speed`."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from benchmarks.choice import chosen
from benchmarks.output import RESULTS
from features.errors import ConfigError
from pipelines.cli_parser import parser_for

if TYPE_CHECKING:
    from benchmarks.speed.contest import Result
    from benchmarks.speed.stages import StageCost

CONTESTS = ("retrieval", "validation", "journeys", "feed")
NONE = "none"
DESCRIPTION = (
    "Hold the data plane's stages against physical limits measured in the same run, measure every stage at rising "
    "sizes, and extrapolate; write NAME.json, .md and a figure. Exit code 1 where a limit is not kept."
)
LIMITS = {
    "rows": (1_000, 10**9), "entities": (100, 10**9), "journeys": (100, 10**8), "repetitions": (1, 100),
    "turns": (1, 100), "samples": (1, 10**12),
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """The data plane's stages against physical limits; scaling; what 30 billion samples would cost."""
    options = _parser().parse_args(arguments)
    _check(options)

    from rich.console import Console

    console = Console(stderr=True)

    def tell(what: str) -> None:
        console.print(what, highlight=False)

    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="alm-mta-speed-", dir=options.work) as work:
        contests = _contests(options, Path(work), tell)
        stages = _stages(options, Path(work), tell)
    paths, kept = _write(options, contests, stages)
    sys.stdout.write(f"wrote {', '.join(map(str, paths))}\n")
    return 0 if kept else 1


def _parser() -> ArgumentParser:
    parser = parser_for("benchmark speed", DESCRIPTION)
    shown = "comma-separated; all unless given, none for none"
    parser.add_argument("--contests", type=str, default="", help=f"{', '.join(CONTESTS)}: {shown}")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the view and of the touchpoints in contests")
    parser.add_argument("--entities", type=int, default=1_000_000, help="entity rows of the contest retrieval")
    parser.add_argument("--journeys", type=int, default=32_768, help="of the contest feed")
    parser.add_argument("--repetitions", type=int, default=3, help="of every contest")
    parser.add_argument("--stages", type=str, default="", help=f"stages to measure at every size: {shown}")
    parser.add_argument("--sizes", type=str, default="100000,1000000,10000000", help="touchpoints, comma-separated")
    parser.add_argument("--turns", type=int, default=5, help="of every stage at every size; the cheapest counts")
    parser.add_argument("--samples", type=int, default=30_000_000_000, help="journeys to extrapolate to")
    parser.add_argument("--price", type=float, default=0.05, help="of a core-hour, in any currency")
    parser.add_argument("--name", type=str, default="", help="of the result; speed, or speed-part, unless given")
    parser.add_argument("--work", type=Path, default=None, help="folder for scratch; the system's unless given")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return parser


def _check(options: Namespace) -> None:
    for name, (least, most) in LIMITS.items():
        if not least <= options[name] <= most:
            raise ConfigError(f"--{name} {options[name]}: must be from {least:,} to {most:,}")
    if options.price < 0:
        raise ConfigError(f"--price {options.price}: must not be negative")


def _contests(options: Namespace, work: Path, tell: Callable[[str], None]) -> dict[str, Result]:
    if options.contests == NONE:
        return {}
    from benchmarks.speed import feed, journeys, retrieval, validation

    runs: Mapping[str, tuple[Callable[..., Result], dict[str, int]]] = {
        "retrieval": (retrieval.run, {"rows": options.rows, "entities": options.entities}),
        "validation": (validation.run, {"rows": options.rows}),
        "journeys": (journeys.run, {"rows": options.rows}),
        "feed": (feed.run, {"journeys": options.journeys}),
    }
    results = {}
    for name, (run, sizes) in chosen("--contests", options.contests, runs).items():
        with tempfile.TemporaryDirectory(dir=work) as folder:
            tell(f"contest {name}")
            results[name] = run(Path(folder), repetitions=options.repetitions, tell=tell, **sizes)
    return results


def _stages(options: Namespace, work: Path, tell: Callable[[str], None]) -> list[StageCost]:
    if options.stages == NONE:
        return []
    from benchmarks.speed import stages

    names = list(chosen("--stages", options.stages, dict.fromkeys(stages.STAGES)))
    return stages.run(work, _sizes(options.sizes, stages.FLOOR), names, options.turns, tell)


def _sizes(text: str, floor: int) -> list[int]:
    try:
        sizes = sorted({int(size) for size in text.split(",")})
    except ValueError:
        raise ConfigError(f"--sizes {text}: write numbers, as 100000,1000000") from None
    if sizes[0] <= floor or sizes[-1] > 10**9:
        raise ConfigError(f"--sizes {text}: must be above {floor:,} and at most 1,000,000,000")
    return sizes


def _write(
    options: Namespace, contests: Mapping[str, Result], taken: list[StageCost]
) -> tuple[list[Path], bool]:  # fmt: skip
    """The files, and whether every limit was kept."""
    from benchmarks.accuracy.result import PACKAGES, to_json
    from benchmarks.output import write_texts
    from benchmarks.provenance import provenance
    from benchmarks.speed import stages
    from benchmarks.speed.extrapolation import extrapolate
    from benchmarks.speed.report import MOST_EXPONENT, figure, to_markdown

    result: dict[str, Any] = {
        **provenance("benchmarks.speed", [], PACKAGES),
        "command": _command(options),
        "settings": {"repetitions": options.repetitions, "turns": options.turns},
        "contests": {name: contest.as_dict() for name, contest in contests.items()},
        "stages": stages.as_dict(taken) if taken else {},
        "extrapolation": asdict(extrapolate(taken, options.samples, options.price)) if taken else {},
    }
    texts = {".json": to_json(result, depth=5), ".md": to_markdown(result)}
    if taken:
        texts["-stages.svg"] = figure(result["stages"])
    part = "-part" if options.contests or options.stages else ""
    paths = write_texts(options.out, options.name or f"speed{part}", texts)
    checks = [check.met for contest in contests.values() for check in contest.checks]
    scaling = [k is None or k <= MOST_EXPONENT for k in stages.exponents(taken).values()]
    return paths, all(met is not False for met in (*checks, *scaling))


def _command(options: Namespace) -> str:
    """The command that repeats the result, wherever it is kept."""
    words = ["alm-mta", "benchmark", "speed"]
    for name in (
        "contests", "rows", "entities", "journeys", "repetitions", "stages", "sizes", "turns", "samples", "price",
        "name",
    ):  # fmt: skip
        if options[name] != "":
            words += [f"--{name}", str(options[name])]
    return shlex.join(words)
