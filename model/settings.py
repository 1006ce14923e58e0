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
    bank_matches: int = 0
    """Marginalise over this many nearest bank journeys only (large treatment spaces); 0 = all."""
    members: int = 2
    """E, networks of the mediator prior fitted side by side; their mean is used, their spread is an error."""
    mediator_dims: int = 1
    """K, dimensions of the mediator, each with its own response index and decay."""
    attention_heads: int = 0
    """Heads of a transformer layer in the confounder branch; 0 = none. Must divide hidden."""
    denoise: bool = True
    """Free the mediator of response noise and of the user's level before the outcome reads it."""
    calibrate: bool = True
    """Correct the scale by randomised rows where there are any."""
    min_overlap_ess: float = 8.0
    """A credit abstains where the bank's effective sample size is below this."""

    def __post_init__(self) -> None:
        if self.members < 1 or self.mediator_dims < 1 or self.bank_matches < 0:
            raise ConfigError(
                f"model: members = {self.members}, mediator_dims = {self.mediator_dims}, bank_matches = "
                f"{self.bank_matches}: members and mediator_dims must be positive, bank_matches not negative"
            )
        if self.attention_heads < 0 or (self.attention_heads and self.hidden % self.attention_heads):
            raise ConfigError(
                f"model.attention_heads = {self.attention_heads}: must be 0 or divide model.hidden = {self.hidden}"
            )
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
    """Passes over the fit split; more where they would make fewer than min_steps, fewer where more than max_steps."""
    min_steps: int = 400
    """Least optimiser steps."""
    max_steps: int = 1500
    """Most optimiser steps, to the nearest whole pass: large logs need no second look."""
    batch_size: int = 512
    """Journeys a step and device; halved until min_steps fit where the data are few, not below 64."""
    negatives_per_positive: float = 0.0
    """Journeys without an upload that an epoch draws anew for each with one, weighted so that every loss keeps its
    expectation (model/sampling.py); 0 = all there are. The paper's 2:3 is 1.5."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle schedule."""
    prior_rate: float = 4.0
    """Learning rate of the mediator prior, times that of the other networks."""
    link_rate: float = 20.0
    """Learning rate of link, decay and scale, times that of the networks."""
    outcome_epochs: int = 4
    """Passes that refit the outcome on the denoised mediator."""
    weight_decay: float = 1e-4
    """AdamW's decoupled L2."""
    mediator_weight: float = 1.0
    """Weight of the mediator loss."""
    within_journey: bool = True
    """Fit the mediator prior to differences between touches of one journey, which hidden intent cannot shift."""
    adversary_weight: float = 1.0
    """λ of the trusted-view adversary's reversed gradient, ramped up over the first 30% of steps; 0 = none."""
    leak_threshold: float = 0.1
    """A response that explains this share of the trusted response's log-loss is left out as a leak; 0 = none is."""
    trusted_response: str = "watch_ratio"
    """The response that an upload cannot have caused; without it in the logs there is no adversary."""
    patience: int = 3
    """Epochs without a better outcome loss on the selection split before training stops, after min_steps."""
    devices: int = 1
    """Processes (CPU) or GPUs; more than one trains with DDP."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints within an epoch, where a killed fit goes on; 0 = at the ends of epochs only."""
    accelerator: str = "auto"
    """Lightning accelerator: auto, cpu or gpu."""
    naive_baseline: bool = True
    """Also fit the naive leave-one-out baseline that reports stand beside the credits."""

    def __post_init__(self) -> None:
        for name in (
            "max_epochs",
            "min_steps",
            "max_steps",
            "batch_size",
            "learning_rate",
            "patience",
            "devices",
            "prior_rate",
            "link_rate",
            "outcome_epochs",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"train.{name} = {getattr(self, name)}: must be positive")
        for name in (
            "weight_decay",
            "mediator_weight",
            "adversary_weight",
            "leak_threshold",
            "checkpoint_minutes",
            "negatives_per_positive",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"train.{name} = {getattr(self, name)}: must not be negative")


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
