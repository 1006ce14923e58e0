"""The console script `alm-mta`: finds the command, runs it, and says on one line what went wrong.

Exit codes: 0 approved, unchanged or done; 1 not approved or failed; 2 the command or its configuration means nothing;
130 interrupted (Ctrl-C).
"""

from __future__ import annotations

import importlib
import keyword
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from features.errors import AlmMtaError, ConfigError
from features.settings import one_line
from pipelines.cli_parser import listing

OURS = ("features", "validation", "model", "allocator", "components", "pipelines", "benchmarks")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A subcommand; its module is imported only when it is called."""

    module: str
    """Module that holds a function of the command's name, taking its arguments and returning the exit code.

    A command that is a keyword of Python has its function end in an underscore."""
    summary: str
    """One line for the overview."""


COMMANDS = {
    "simulate": Command(module="pipelines.cli_stages", summary="write a world's logs and its truth"),
    "import": Command(module="pipelines.cli_import", summary="turn a public data set into logs; lists what there is"),
    "run": Command(module="pipelines.cli_pipeline", summary="logs -> credits, judged model, champion, plan: all of it"),
    "train": Command(module="pipelines.cli_stages", summary="fit the model on journeys and features"),
    "sweep": Command(module="pipelines.cli_stages", summary="search model and training settings"),
    "attribute": Command(module="pipelines.cli_stages", summary="write the credits of a model"),
    "evaluate": Command(module="pipelines.cli_stages", summary="judge credits and decide"),
    "gate": Command(module="pipelines.cli_gate", summary="decide again on a stored evaluation"),
    "compile": Command(module="pipelines.cli_pipeline", summary="write the Kubeflow pipeline as YAML"),
    "submit": Command(module="pipelines.cli_pipeline", summary="start one run on a Kubeflow server"),
    "schedule": Command(module="pipelines.cli_pipeline", summary="retrain on a cluster by a cron expression"),
    "serve": Command(module="pipelines.cli_allocator", summary="run the incentive allocator"),
    "push": Command(module="pipelines.cli_allocator", summary="have an allocator serve a model bundle"),
    "allocate": Command(module="pipelines.cli_allocator", summary="ask an allocator for a plan"),
    "rollback": Command(module="pipelines.cli_allocator", summary="have an allocator serve the version before"),
    "benchmark": Command(module="pipelines.cli_benchmark", summary="measure accuracy or speed; lists what there is"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `alm-mta arguments`; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    if not given or given[0] in ("-h", "--help"):
        sys.stdout.write(overview())
        return 0 if given else 2
    name, *rest = given
    try:
        return _call(name, rest)
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except Exception as error:
        if debug:
            raise
        return _explain(error)


def overview() -> str:
    """What `alm-mta --help` prints."""
    return listing(
        "usage: alm-mta COMMAND [--help] [--debug] ...\n\n"
        "Which consumed items cause uploads? Causal multi-touch attribution, from logs to incentives.",
        {name: command.summary for name, command in COMMANDS.items()},
        "Every command has --help. --debug shows the traceback of an error.\n"
        "Exit codes: 0 approved, unchanged or done; 1 not approved or failed; 2 usage; 130 Ctrl-C.",
    )


def _call(name: str, arguments: list[str]) -> int:
    if name not in COMMANDS:
        raise ConfigError(f"no command '{name}': there are {', '.join(COMMANDS)}")
    _configure_logging()
    module = importlib.import_module(COMMANDS[name].module)
    function = f"{name}_" if keyword.iskeyword(name) else name
    code: int = getattr(module, function)(arguments)
    return code


def _explain(error: Exception) -> int:
    from argparse import ArgumentError

    if isinstance(error, (ConfigError, ArgumentError)):
        _complain(one_line(error))
        return 2
    if isinstance(error, AlmMtaError):
        _complain(one_line(error))
        return 1
    _complain(f"unexpected {type(error).__name__}: {one_line(error)} (--debug shows where)")
    return 1


def _complain(text: str) -> None:
    sys.stderr.write(f"error: {text}\n")


def _configure_logging() -> None:
    """This project's INFO lines and everybody's warnings, on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for package in OURS:
        logging.getLogger(package).setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
