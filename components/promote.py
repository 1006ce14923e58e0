"""The version that the allocator serves becomes the champion."""

from kfp import dsl

from components.base import component


@component
def promote(config: str, version: str, served_sha256: str, model: dsl.Input[dsl.Model]) -> None:
    """Move the alias champion to `version`, once the allocator serves the very bundle that was approved.

    Args:
        config: YAML of all sections; reads `registry`.
        version: Version made by register.
        served_sha256: What the allocator said it serves, from push.
        model: The candidate's bundle.
    """
    from components.runtime import step
    from features.errors import AllocatorError
    from features.settings import load_section
    from model import registry
    from model.settings import RegistryConfig

    with step():
        if served_sha256 != model.metadata["sha256"]:
            raise AllocatorError(
                f"the allocator serves {served_sha256[:12]}, approved was {model.metadata['sha256'][:12]}, which was "
                "rolled back in the allocator or replaced there: the champion stays; retrain, or push it there under a "
                "new version"
            )
        registry.promote(load_section(config, "registry", RegistryConfig), version)
