"""Worlds with known truth: parameters -> logs in the data contract + the truth of every touchpoint."""

from __future__ import annotations

from validation.worlds.logit import LogitWorld, simulate

WORLDS: dict[str, LogitWorld] = {
    "logit": LogitWorld(),
    "no-effect": LogitWorld(effect_scale=0.0),
}

__all__ = ["WORLDS", "LogitWorld", "simulate"]
