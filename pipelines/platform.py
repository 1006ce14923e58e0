"""Where a pipeline's steps run: in local subprocesses, or as pods of a cluster with secrets, volumes and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from features.errors import ConfigError

Needs = Literal["data", "compute", "outside", "registry", "push"]
"""What a step touches: only its inputs (data), many cores and shared memory (compute), logs or registry as they are now
(outside), the registry as it will be (registry), the allocator (push)."""


STORAGE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL")
"""Environment by which steps reach an S3-compatible store; those that a secret lacks stay unset."""


class Platform(Protocol):
    """Settles a task onto the place where it will run, and says where what was killed goes on."""

    def settle(self, task: Any, label: str, needs: Needs) -> Any: ...

    def checkpoints(self, root: Any) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class LocalPlatform:
    """Steps are subprocesses on this machine. A resumed run keeps all but those that change registry or allocator."""

    def settle(self, task: Any, label: str, needs: Needs) -> Any:
        return task.set_display_name(label).set_caching_options(needs not in ("registry", "push"))

    def checkpoints(self, root: Any) -> Any:
        return root


@dataclass(frozen=True, kw_only=True)
class ClusterPlatform:
    """Steps are pods. What reads the outside world is never taken from the server's cache."""

    image: str = ""
    """Image of every step, by version or digest; empty = the one the components were built with."""
    data_claim: str = "alm-mta-data"
    """PersistentVolumeClaim with logs, checkpoints and exported models; empty = none."""
    data_mount: str = "/data"
    """Where it is mounted."""
    token_secret: str = "allocator-tokens"
    """Secret whose key push becomes ALM_MTA_TOKEN_PUSH of the step that pushes."""
    storage_secret: str = ""
    """Secret with keys of STORAGE_KEYS, for steps that read logs from an object store; empty = none."""
    step_timeout_s: int = 6 * 3600
    """Longest a step's pod may live."""
    train_timeout_s: int = 24 * 3600
    """Longest the training's pod may live."""
    shared_memory: str = "16Gi"
    """/dev/shm of the training, for its data loaders and processes."""
    train_cpu: str = "8"
    """CPU cores of the training."""
    train_memory: str = "32Gi"
    """Memory of the training."""
    gpus: int = 0
    """NVIDIA GPUs of the training."""
    retries: int = 2
    """Attempts after a failed pod; training goes on from its checkpoint."""
    user: int = 10001
    """User and group that the steps run as."""

    def __post_init__(self) -> None:
        if self.image and "@sha256:" not in self.image and ":" not in self.image.rsplit("/", 1)[-1]:
            raise ConfigError(f"image = {self.image}: name it by version or digest, such as {self.image}:0.1.0")
        if self.image.endswith(":latest"):
            raise ConfigError(f"image = {self.image}: 'latest' is not a version")

    def settle(self, task: Any, label: str, needs: Needs) -> Any:
        from kfp import kubernetes

        task.set_display_name(label).set_caching_options(needs in ("data", "compute"))
        task.set_retry(self.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
        if self.image:
            task.set_container_image(self.image)
        kubernetes.set_image_pull_policy(task, "IfNotPresent")
        kubernetes.set_security_context(task, run_as_user=self.user, run_as_group=self.user, run_as_non_root=True)
        kubernetes.set_timeout(task, self.train_timeout_s if needs == "compute" else self.step_timeout_s)
        if self.data_claim:
            kubernetes.mount_pvc(task, pvc_name=self.data_claim, mount_path=self.data_mount)
        if needs == "compute":
            self._for_training(task)
        if needs == "outside" and self.storage_secret:
            keys = {key: key for key in STORAGE_KEYS}
            kubernetes.use_secret_as_env(task, secret_name=self.storage_secret, secret_key_to_env=keys, optional=True)
        if needs == "push":
            token = {"push": "ALM_MTA_TOKEN_PUSH"}
            kubernetes.use_secret_as_env(task, secret_name=self.token_secret, secret_key_to_env=token)
        return task

    def checkpoints(self, root: Any) -> Any:
        from kfp import dsl

        return f"{root}/{dsl.PIPELINE_JOB_ID_PLACEHOLDER}"

    def _for_training(self, task: Any) -> None:
        from kfp import kubernetes

        kubernetes.empty_dir_mount(
            task, volume_name="dshm", mount_path="/dev/shm", medium="Memory", size_limit=self.shared_memory
        )
        task.set_cpu_limit(self.train_cpu).set_memory_limit(self.train_memory)
        if self.gpus:
            task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(self.gpus)
