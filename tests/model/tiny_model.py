"""A model small enough to fit within a test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.settings import ModelConfig, TrainConfig

TINY_MODEL = ModelConfig(hidden=8, bank=32)
TINY_TRAIN = TrainConfig(max_epochs=2, min_steps=20, batch_size=128, accelerator="cpu")


@dataclass(frozen=True, kw_only=True)
class Trained:
    bundle: Path
    baselines: Path
