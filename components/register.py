"""An approved model becomes a registered version."""

from kfp import dsl

from components.base import component


@component
def register(config: str, model: dsl.Input[dsl.Model], evaluation: dsl.Input[dsl.Artifact]) -> str:
    """Register the bundle as a new version under the alias challenger; returns the version.

    The same bundle again is the version that it already has: a scheduled slot may fire twice.

    Args:
        config: YAML of all sections; reads `registry`.
        model: The candidate's bundle.
        evaluation: Folder written by evaluate.
    """
    from pathlib import Path

    from components.runtime import step
    from features.settings import load_section
    from model import registry
    from model.settings import RegistryConfig

    with step():
        settings = load_section(config, "registry", RegistryConfig)
        return str(registry.register(settings, Path(model.path), Path(evaluation.path)).version)
