"""Worlds with known truth: parameters -> logs in the data contract + the truth of every touchpoint."""

from __future__ import annotations

from validation.worlds.base import World
from validation.worlds.catalogue import Catalogue
from validation.worlds.kuairand import read_kuairand
from validation.worlds.logit import LogitWorld
from validation.worlds.named import JUDGE_REPORT_WORLDS, JUDGE_WORLDS, REPORT_WORLDS, WORLDS
from validation.worlds.simulation import simulate

__all__ = [
    "JUDGE_REPORT_WORLDS",
    "JUDGE_WORLDS",
    "REPORT_WORLDS",
    "WORLDS",
    "Catalogue",
    "LogitWorld",
    "World",
    "read_kuairand",
    "simulate",
]
