"""`alm-mta simulate | train | sweep | attribute | evaluate`: one stage alone, the same code as its component."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from features.errors import ConfigError
from features.files import atomic_file, refuse_foreign
from features.storage import location
from pipelines.cli_parser import add_sections, parser_for, sections_of

if TYPE_CHECKING:  # jsonargparse looks here for the types of sections; running the imports would cost every command
    from model.settings import ModelConfig, SweepConfig, TrainConfig
    from validation.measured import JudgeConfig


def simulate(arguments: list[str]) -> int:
    """A world with known truth."""
    parser = parser_for("simulate", "Write the logs of a simulated world, with its truth beside them.")
    parser.add_argument("--world", type=str, default="logit", help="name of the world")
    parser.add_argument("--users", type=int, default=20_000, help="number of users")
    parser.add_argument("--seed", type=int, default=7, help="equal seeds give equal logs")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced as a whole")
    parser.add_argument("--users-csv", type=Path, help="real profiles: user_features_*.csv of KuaiRand")
    parser.add_argument("--videos-csv", type=Path, help="real catalogue: video_features_basic_*.csv of KuaiRand")
    options = parser.parse_args(arguments)

    from validation.worlds import JUDGE_WORLDS, WORLDS, read_kuairand
    from validation.worlds import simulate as write_world

    worlds = WORLDS | JUDGE_WORLDS
    if options.world not in worlds:
        raise ConfigError(f"--world {options.world}: there are {', '.join(worlds)}")
    if (options.users_csv is None) != (options.videos_csv is None):
        raise ConfigError("--users-csv and --videos-csv: a catalogue needs both files, a world without one neither")
    refuse_foreign(options.out, "truth/world.json")
    catalogue = read_kuairand(options.users_csv, options.videos_csv) if options.users_csv else None
    write_world(worlds[options.world], options.users, options.seed, options.out, catalogue)
    sys.stdout.write(f"{options.users:,} users of world '{options.world}' under {options.out}\n")
    return 0


def train(arguments: list[str]) -> int:
    """Fit the model."""
    from model.settings import ModelConfig, TrainConfig

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        model: ModelConfig = field(default_factory=ModelConfig)
        train: TrainConfig = field(default_factory=TrainConfig)

    parser = parser_for("train", "Fit the front-door model and write its bundle.")
    _add_inputs(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--baselines", type=Path, help="folder of the naive baseline's weights")
    parser.add_argument("--checkpoints", type=Path, required=True, help="kept between attempts: a killed fit goes on")
    add_sections(parser, Settings)
    options = parser.parse_args(arguments)
    settings = sections_of(parser, options, Settings)

    _refuse_absent(options, "journeys", "data")
    refuse_foreign(options.out, "manifest.json")
    from model.train import train as fit

    fit(
        journeys_dir=options.journeys,
        data_dir=options.data,
        model_config=settings.model,
        config=settings.train,
        checkpoints=options.checkpoints,
        out=options.out,
        baselines_out=options.baselines,
    )
    return 0


def sweep(arguments: list[str]) -> int:
    """Search settings."""
    from model.settings import ModelConfig, SweepConfig, TrainConfig

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        sweep: SweepConfig = field(default_factory=lambda: SweepConfig(trials=4))
        model: ModelConfig = field(default_factory=ModelConfig)
        train: TrainConfig = field(default_factory=TrainConfig)

    parser = parser_for("sweep", "Search model and training settings on the selection split, with Ray Tune.")
    _add_inputs(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of trials.json and best.yaml (for --config)")
    add_sections(parser, Settings)
    options = parser.parse_args(arguments)
    settings = sections_of(parser, options, Settings)

    _refuse_absent(options, "journeys", "data")
    refuse_foreign(options.out, "trials.json")
    from model.sweep import best_config
    from model.sweep import sweep as search

    best_model, best_train = search(
        journeys_dir=options.journeys,
        data_dir=options.data,
        config=settings.sweep,
        model_config=settings.model,
        train_config=settings.train,
        out=options.out,
    )
    with atomic_file(options.out / "best.yaml") as temporary:
        temporary.write_text(best_config("", best_model, best_train))
    sys.stdout.write(f"best settings: {options.out / 'best.yaml'}\n")
    return 0


def attribute(arguments: list[str]) -> int:
    """Write credits."""
    parser = parser_for("attribute", "Write the credits of every touchpoint.")
    _add_inputs(parser)
    parser.add_argument("--model", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--champion", type=Path, help="folder of the bundle to compare with")
    parser.add_argument("--baselines", type=Path, help="folder of the naive baseline's weights")
    parser.add_argument("--out", type=Path, required=True, help="folder of the credits")
    options = parser.parse_args(arguments)

    _refuse_absent(options, "journeys", "data", "model")
    refuse_foreign(options.out, "summary.json")
    from model.attribution import attribute as credit

    credit(
        model_dir=options.model,
        journeys_dir=options.journeys,
        data_dir=options.data,
        out=options.out,
        champion_dir=options.champion,
        baselines_dir=options.baselines,
    )
    return 0


def evaluate(arguments: list[str]) -> int:
    """Judge and decide; exit code 1 unless approved."""
    from validation.measured import JudgeConfig

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        judge: JudgeConfig = field(default_factory=JudgeConfig)

    parser = parser_for("evaluate", "Judge credits on users that no model was fitted on, and decide.")
    _add_inputs(parser)
    parser.add_argument("--model", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--credits", type=Path, required=True, help="folder written by attribute")
    parser.add_argument("--logs", type=str, required=True, help="folder of the logs, for the truth of simulated worlds")
    parser.add_argument("--out", type=Path, required=True, help="folder of evaluation, decision and report")
    add_sections(parser, Settings)
    options = parser.parse_args(arguments)
    settings = sections_of(parser, options, Settings)

    _refuse_absent(options, "journeys", "data", "model", "credits")
    refuse_foreign(options.out, "decision.json")
    from validation.evaluate import evaluate as judge

    decision = judge(
        journeys_dir=options.journeys,
        data_dir=options.data,
        credits_dir=options.credits,
        model_dir=options.model,
        logs_root=location(options.logs),
        config=settings.judge,
        out=options.out,
    )
    sys.stdout.write(f"{decision.verdict}: {'; '.join(decision.reasons)}\nreport: {options.out / 'report.html'}\n")
    return 0 if decision.verdict == "approved" else 1


def _add_inputs(parser: ArgumentParser) -> None:
    parser.add_argument("--journeys", type=Path, required=True, help="folder of the journeys")
    parser.add_argument("--data", type=Path, required=True, help="folder of the training table")


MARKERS = {"journeys": "manifest.json", "data": "schema.json", "model": "manifest.json", "credits": "summary.json"}
"""Option of an input folder -> a file that its stage always writes."""


def _refuse_absent(options: Namespace, *names: str) -> None:
    """ConfigError for an input folder that is not there or that another stage wrote."""
    for name in names:
        if not (options[name] / MARKERS[name]).is_file():
            raise ConfigError(f"--{name} {options[name]}: no {MARKERS[name]} there; name the folder with the {name}")
