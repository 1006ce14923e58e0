"""A pipeline of two steps that count how often they ran and fail when told to."""

from kfp import dsl

from components.base import component


@component
def first_step(ledger: str, out: dsl.Output[dsl.Dataset], metrics: dsl.Output[dsl.Metrics]) -> str:
    from pathlib import Path

    from components.outputs import log_metrics
    from components.runtime import step

    with step():
        with Path(ledger).open("a") as lines:
            lines.write("first\n")
        Path(out.path).mkdir(parents=True)
        (Path(out.path) / "part.txt").write_text("made by the first step")
        log_metrics(metrics, {"finite": 1.0, "lost": float("nan")})
        return "approved"


@component
def second_step(ledger: str, fail_while: str, made: dsl.Input[dsl.Dataset]) -> str:
    import logging
    from pathlib import Path

    from components.runtime import step
    from features.errors import BadLogsError

    with step():
        logging.getLogger("features.tiny").info("reading [what] came before")
        with Path(ledger).open("a") as lines:
            lines.write("second\n")
        if Path(fail_while).exists():
            raise BadLogsError("is broken", table="touchpoints", rows=3)
        return (Path(made.path) / "part.txt").read_text()


@component
def slow_step(ledger: str, module: str) -> str:
    from components.runtime import run_module, step

    with step():
        run_module(module, ledger)
        return "done"


@dsl.pipeline(name="tiny")
def tiny(ledger: str, fail_while: str) -> str:
    made = first_step(ledger=ledger)
    with dsl.If(made.outputs["Output"] == "approved", name="approved"):
        second_step(ledger=ledger, fail_while=fail_while, made=made.outputs["out"])
    return made.outputs["Output"]


@dsl.pipeline(name="slow")
def slow(ledger: str, module: str) -> str:
    return slow_step(ledger=ledger, module=module).output
