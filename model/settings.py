"""Settings of this package. They import nothing heavy, so that the command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass

from features.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of the networks and of the marginalisation bank."""

    hidden: int = 32
    """H, width of every branch."""
    bank: int = 128
    """J, fit journeys that stand for T' in the front-door formula; at least 32."""
    bank_bandwidth: float = 0.5
    """Kernel width on the standardised propensity score."""
    min_overlap_ess: float = 8.0
    """A credit abstains where the bank's effective sample size is below this."""

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.bank < 32 or self.bank_bandwidth <= 0:
            raise ConfigError(
                f"model: hidden = {self.hidden}, bank = {self.bank}, bank_bandwidth = {self.bank_bandwidth}: "
                "hidden must be positive, bank at least 32, bank_bandwidth positive"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is fitted."""

    seed: int = 7
    """Seeds weights, batches and the marginalisation bank."""
    max_epochs: int = 6
    """Passes over the fit split; more where they would make fewer than min_steps."""
    min_steps: int = 400
    """Least optimiser steps."""
    batch_size: int = 512
    """Journeys a step and device; halved until min_steps fit where the data are few, not below 64."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 1e-4
    """AdamW's decoupled L2."""
    mediator_weight: float = 1.0
    """Weight of the within-journey mediator loss."""
    patience: int = 3
    """Epochs without a better outcome loss on the selection split before training stops, after min_steps."""
    devices: int = 1
    """Processes (CPU) or GPUs; more than one trains with DDP."""
    accelerator: str = "auto"
    """Lightning accelerator: auto, cpu or gpu."""
    naive_baseline: bool = True
    """Also fit the naive leave-one-out baseline that reports stand beside the credits."""

    def __post_init__(self) -> None:
        for name in ("max_epochs", "min_steps", "batch_size", "learning_rate", "patience", "devices"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"train.{name} = {getattr(self, name)}: must be positive")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A search over model.hidden and train.{learning_rate, weight_decay, batch_size}."""

    trials: int = 0
    """Trials to run; 0 = no sweep."""
    concurrent: int = 2
    """Trials at a time."""
    cpus_per_trial: float = 1.0
    """CPU cores a trial holds."""
    gpus_per_trial: float = 0.0
    """GPUs a trial holds."""
    seed: int = 7
    """Seeds the proposals."""
    address: str = ""
    """Ray cluster to run on; empty = a local one, started and stopped here."""
    storage: str = ""
    """Folder or URI that all Ray nodes share; empty = beside the results."""

    def __post_init__(self) -> None:
        if self.trials < 0 or self.concurrent < 1:
            raise ConfigError(
                f"sweep.trials = {self.trials}, sweep.concurrent = {self.concurrent}: trials must not be negative, "
                "concurrent at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class RegistryConfig:
    """Where models are registered."""

    tracking_uri: str = ""
    """MLflow tracking and registry server, or sqlite:///FILE; empty = the workdir's own sqlite file."""
    artifact_root: str = ""
    """Where a new experiment keeps its artefacts; empty = what the tracking server says."""
    model_name: str = "alm-mta"
    """Registered model."""
    experiment: str = "alm-mta-training"
    """Experiment of the runs."""

    def __post_init__(self) -> None:
        if not self.model_name or not self.experiment:
            raise ConfigError("registry.model_name and registry.experiment must not be empty")
