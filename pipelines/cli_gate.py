"""`alm-mta gate --replay RUN`: the gate's decision again, from what was stored with it."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from features.errors import ConfigError
from pipelines.cli_parser import parser_for

THRESHOLDS = {
    "confidence_z": "standard errors of the two-sided intervals",
    "guard_z": "standard errors by which a bucket must be worse to count as harmed",
    "guard_share": "harm to a bucket that is tolerated, as a share of its part of A_oracle",
}


def gate(arguments: list[str]) -> int:
    """Decide again; exit code 1 unless the decision now is approved."""
    options = _parser().parse_args(arguments)
    if not options.replay:
        raise ConfigError("gate: --replay RUN names what to decide again: a run's id in MLflow, or an evaluation.json")

    from validation.gate import GateConfig, replay

    evaluation = _evaluation(options)
    stored = GateConfig(**evaluation["gate"]["thresholds"])
    changed = {name: options[name] for name in THRESHOLDS if options[name] is not None}
    config = replace(stored, **changed)
    decision = replay(evaluation["gate"], config)
    lines = [f"{decision.verdict}: {'; '.join(decision.reasons)}"]
    lines += [f"{name} {getattr(config, name):g}, stored {getattr(stored, name):g}" for name in changed]
    same = decision.verdict == evaluation["verdict"] and list(decision.reasons) == evaluation["reasons"]
    lines.append("as stored" if same else f"stored was {evaluation['verdict']}: {'; '.join(evaluation['reasons'])}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if decision.verdict == "approved" else 1


def _parser() -> ArgumentParser:
    parser = parser_for(
        "gate",
        "Decide again on a stored evaluation, by the thresholds that were stored with it or by others. Nothing is "
        "changed in the registry.",
    )
    parser.add_argument("--replay", type=str, default="", metavar="RUN", help="run id in MLflow, or evaluation.json")
    parser.add_argument("--workdir", type=Path, default=Path("work"), help="of local runs, whose mlflow.db has the id")
    parser.add_argument("--tracking-uri", type=str, default="", help="MLflow server, instead of the workdir's")
    for name, text in THRESHOLDS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=float, default=None, help=f"{text}; as stored if absent"
        )
    return parser


def _evaluation(options: Namespace) -> dict[str, Any]:
    from features.files import read_json

    path = Path(options.replay)
    if path.is_dir():
        path = path / "evaluation.json"
    if path.is_file():
        return _checked(read_json(path), str(path))

    from model import registry
    from model.settings import RegistryConfig

    database = options.workdir / "mlflow.db"
    if not options.tracking_uri and not database.is_file():
        raise ConfigError(
            f"--replay {options.replay}: no such file, and no {database} to look a run up in; "
            "name the run's --workdir, or a --tracking-uri"
        )
    settings = RegistryConfig(tracking_uri=options.tracking_uri or f"sqlite:///{database}")
    with tempfile.TemporaryDirectory() as folder:
        found = registry.evaluation_of(settings, options.replay, Path(folder))
        return _checked(read_json(found / "evaluation.json"), f"run {options.replay}")


def _checked(evaluation: Any, where: str) -> dict[str, Any]:
    needed = {"verdict", "reasons", "gate"}
    if not isinstance(evaluation, dict) or not needed <= evaluation.keys():
        raise ConfigError(f"{where}: holds no evaluation of the gate; needs {', '.join(sorted(needed))}")
    return evaluation
