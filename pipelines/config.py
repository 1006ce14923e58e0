"""The whole configuration: one section an owner, from YAML plus `--section.key value` overrides."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from allocator.api import MAX_HISTORY, MAX_OPTIONS, MAX_USERS, Name
from allocator.client import AllocatorConfig
from features.errors import ConfigError
from features.journeys import JourneyConfig
from features.settings import ContractConfig
from features.shards import ShardConfig
from model.settings import ModelConfig, RegistryConfig, SweepConfig, TrainConfig
from validation.measured import JudgeConfig

A_RUN_ID = "20260131T030000.000"
"""As `pipelines.workdir` makes them."""


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """The plan that a run asks the allocator for, once its model serves."""

    users: int = 500
    """Judge users, each with the latest journey."""
    options: int = 8
    """Items offered to a user, spread over the catalogue."""
    lowest_cost: int = 1
    """Cost of the cheapest option, in the budget's integer units."""
    highest_cost: int = 5
    """Cost of the dearest."""

    def __post_init__(self) -> None:
        for name, value, most in (("users", self.users, MAX_USERS), ("options", self.options, MAX_OPTIONS)):
            if not 1 <= value <= most:
                raise ConfigError(f"plan.{name} = {value}: must be 1 to {most:,}, what the allocator takes")
        if not 0 <= self.lowest_cost <= self.highest_cost:
            raise ConfigError(
                f"plan.lowest_cost = {self.lowest_cost}, plan.highest_cost = {self.highest_cost}: "
                "costs must not be negative, nor the lowest above the highest"
            )


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """Every setting of a run."""

    contract: ContractConfig = field(default_factory=ContractConfig)
    """How the logs spell the data contract."""
    journeys: JourneyConfig = field(default_factory=JourneyConfig)
    """How journeys are cut and split."""
    shards: ShardConfig = field(default_factory=ShardConfig)
    """How their build is cut, and who builds the shards."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The front-door model."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How it is fitted."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    """The search before training; 0 trials = none."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """The judge and its gate."""
    registry: RegistryConfig = field(default_factory=RegistryConfig)
    """Where models are registered."""
    allocator: AllocatorConfig = field(default_factory=AllocatorConfig)
    """Where approved models serve."""
    plan: PlanConfig = field(default_factory=PlanConfig)
    """The plan after an approval."""

    def __post_init__(self) -> None:
        """What only shows where sections meet: the allocator must take the plan that these settings lead to."""
        if self.journeys.max_touches > MAX_HISTORY:
            raise ConfigError(
                f"journeys.max_touches = {self.journeys.max_touches}: the allocator takes {MAX_HISTORY} at most"
            )
        for key, name in (
            ("allocator.budget", self.allocator.budget),
            ("registry.model_name", self.registry.model_name),
        ):
            try:
                TypeAdapter(Name).validate_python(f"{name}-{A_RUN_ID}")
            except ValidationError:
                raise ConfigError(
                    f"{key} = '{name}': the allocator takes letters, digits, '.', '_' and '-', "
                    f"beginning with a letter or digit, {127 - len(A_RUN_ID)} characters at most"
                ) from None
