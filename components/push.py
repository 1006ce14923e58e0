"""An approved model goes to the incentive allocator."""

from kfp import dsl

from components.base import component


@component
def push(config: str, allocator_url: str, model_store: str, version: str, model: dsl.Input[dsl.Model]) -> str:
    """Put the bundle where the allocator reads, have it served, and return the SHA-256 that the allocator then serves.

    Args:
        config: YAML of all sections; reads `registry` and `allocator`.
        allocator_url: The allocator; the token comes from ALM_MTA_TOKEN_PUSH.
        model_store: Folder that this step writes and the allocator reads.
        version: Version made by register; also the id of the approval.
        model: The candidate's bundle.
    """
    from pathlib import Path

    from allocator import client
    from allocator.settings import token_from_environment
    from components.outputs import push_bundle
    from components.runtime import step
    from features.settings import load_section
    from model.settings import RegistryConfig

    with step():
        name = load_section(config, "registry", RegistryConfig).model_name
        timeout_s = load_section(config, "allocator", client.AllocatorConfig).timeout_s
        store = Path(model_store)
        push_bundle(Path(model.path), store, allocator_url, name=name, version=version, timeout_s=timeout_s)
        token = token_from_environment("push")
        return str(client.current_model(allocator_url, token=token, timeout_s=timeout_s)["sha256"])
