"""Which parts of the published method are on, and their sizes."""

from __future__ import annotations

from dataclasses import dataclass, field

from features.errors import ConfigError
from model.settings import TrainConfig


@dataclass(frozen=True, kw_only=True)
class PaperConfig:
    """The published method; every part can be switched off."""

    direct_proxy: bool = False
    """Feed the proxy Y' itself to the outcome instead of the mediator head's prediction of it: this leaks y."""
    adversary: bool = True
    """Discriminator of y behind gradient reversal on the mediator embedding."""
    contrastive: bool = True
    """InfoNCE with a momentum queue on pairs of consumption and upload; top_k needs it."""
    ipw: bool = True
    """Weight by the inverse propensity of the observed x → T, in the loss and in the marginalisation."""
    top_k: int = 64
    """Marginalise over this many best matches of the bank; 0 = the whole bank."""
    negatives_per_positive: float = 1.5
    """Journeys without an upload drawn for every one with; 0 = all of them, as they are."""
    hidden: int = 32
    """H, width of the backbone and of the heads."""
    match_dim: int = 16
    """E, width of the match embedding."""
    bank: int = 512
    """J, fit journeys that stand for T' in the front-door formula."""
    queue: int = 1024
    """Keys in the momentum queue."""
    momentum: float = 0.99
    """Of the key encoder."""
    temperature: float = 0.1
    """Of the match score ω."""
    weight_clip: float = 2.0
    """Propensity weights stay within [1 / weight_clip, weight_clip]."""
    reversal: float = 1.0
    """λ, what the reversed gradient is multiplied by once it is ramped up."""
    proxy_weight: float = 1.0
    """Weight of the mediator head's loss."""
    adversary_weight: float = 1.0
    """Weight of the discriminator's loss."""
    contrastive_weight: float = 0.01
    """Weight of InfoNCE."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(max_epochs=15, patience=15, batch_size=256, accelerator="cpu")
    )
    """Optimiser and schedule; an epoch is one draw of negatives, and weight_decay is the L2 term."""

    def __post_init__(self) -> None:
        if not 0 <= self.top_k <= self.bank:
            raise ConfigError(f"paper.top_k = {self.top_k}: must be 0 (all) or at most paper.bank = {self.bank}")
        if self.top_k and not self.contrastive:
            raise ConfigError(
                f"paper.top_k = {self.top_k} without paper.contrastive: no match score is learned; set it 0"
            )
        if self.negatives_per_positive < 0 or self.weight_clip <= 1 or not 0 <= self.momentum < 1 or self.queue < 1:
            raise ConfigError(
                f"paper: negatives_per_positive = {self.negatives_per_positive}, weight_clip = {self.weight_clip}, "
                f"momentum = {self.momentum}, queue = {self.queue}: need >= 0, > 1, in [0, 1) and >= 1"
            )
