"""The training pipeline: logs in, credits and a judged model out; a better model is registered, pushed, promoted."""

from typing import Any, NamedTuple

from kfp import dsl

from components.attribute import attribute
from components.build_journeys import build_journeys
from components.evaluate import evaluate
from components.promote import promote
from components.push import push
from components.register import register
from components.retrieve_features import retrieve_features
from components.sweep import sweep
from components.train import train
from components.validate_logs import validate_logs
from components.validate_training_table import validate_training_table
from pipelines.platform import LocalPlatform, Platform

DESCRIPTION = """Which consumed items caused an upload? Trains the front-door attribution model, judges its credits
against the champion's and, only when the gate approves, registers the model, pushes it to the incentive allocator and
promotes it. Parameters: logs = folder of the logs (data contract: touchpoints/, uploads/, items/, users/);
config = YAML of all sections (see `alm-mta run --print_config`); allocator_url and model_store = where an approved
model goes; checkpoint_root = where what was killed goes on: finished shards, checkpoints; scheduled_time = slot of a
scheduled run.
"""


class Outputs(NamedTuple):
    """What a run leaves behind, whatever its verdict."""

    verdict: str
    journeys: dsl.Dataset
    data: dsl.Dataset
    model: dsl.Model
    credits: dsl.Dataset
    evaluation: dsl.Artifact
    logs_quality: dsl.Artifact
    table_quality: dsl.Artifact


def training_pipeline(*, with_sweep: bool = False, on: Platform | None = None) -> Any:
    """The pipeline, settled on a platform; `with_sweep` searches settings before it trains."""
    place = on or LocalPlatform()

    @dsl.pipeline(name="alm-mta-training", description=DESCRIPTION)  # type: ignore[untyped-decorator]
    def alm_mta_training(
        logs: str,
        config: str,
        allocator_url: str,
        model_store: str,
        checkpoint_root: str,
        scheduled_time: str = "",
    ) -> Outputs:
        inputs = {"logs": logs, "config": config, "scheduled_time": scheduled_time}
        checked_logs = place.settle(validate_logs(**inputs), "Validate logs", "outside")
        kept = place.checkpoints(checkpoint_root)
        built = place.settle(build_journeys(**inputs, work_dir=kept), "Build journeys", "outside").after(checked_logs)
        journeys = built.outputs["journeys"]

        retrieved = place.settle(
            retrieve_features(**inputs, work_dir=kept, journeys=journeys), "Retrieve features", "outside"
        )
        data = retrieved.outputs["data"]

        checked_table = place.settle(
            validate_training_table(config=config, journeys=journeys, data=data), "Validate training table", "outside"
        )
        settings = config
        if with_sweep:
            searched = place.settle(sweep(config=config, journeys=journeys, data=data), "Sweep", "compute")
            searched.after(checked_table)
            settings = searched.outputs["Output"]

        trained = place.settle(
            train(
                config=settings,
                checkpoint_dir=kept,
                journeys=journeys,
                data=data,
            ),
            "Train",
            "compute",
        ).after(checked_table)
        model = trained.outputs["model"]

        attributed = place.settle(
            attribute(config=config, journeys=journeys, data=data, model=model, baselines=trained.outputs["baselines"]),
            "Attribute",
            "outside",
        )
        judged = place.settle(
            evaluate(
                logs=logs,
                config=settings,
                journeys=journeys,
                data=data,
                model=model,
                credits=attributed.outputs["credits"],
                logs_quality=checked_logs.outputs["quality"],
                table_quality=checked_table.outputs["quality"],
            ),
            "Evaluate",
            "outside",
        )
        # The local runner resolves only outputs called "Output" in a condition.
        verdict = judged.outputs["Output"]

        with dsl.If(verdict == "approved", name="approved"):
            registered = place.settle(
                register(config=config, model=model, evaluation=judged.outputs["evaluation"]), "Register", "registry"
            )
            pushed = place.settle(
                push(
                    config=config,
                    allocator_url=allocator_url,
                    model_store=model_store,
                    version=registered.output,
                    model=model,
                ),
                "Push",
                "push",
            )
            place.settle(
                promote(config=config, version=registered.output, served_sha256=pushed.output, model=model),
                "Promote",
                "registry",
            )

        return Outputs(
            verdict=verdict,
            journeys=journeys,
            data=data,
            model=model,
            credits=attributed.outputs["credits"],
            evaluation=judged.outputs["evaluation"],
            logs_quality=checked_logs.outputs["quality"],
            table_quality=checked_table.outputs["quality"],
        )

    return alm_mta_training
