"""Every method that the accuracy benchmark compares, by name."""

from __future__ import annotations

from benchmarks.methods.causal_mta import CAUSAL_MTA
from benchmarks.methods.descn import DESCN
from benchmarks.methods.dml import DML
from benchmarks.methods.dnamta import DNAMTA
from benchmarks.methods.front_door import FRONT_DOOR
from benchmarks.methods.interface import Method, Scores
from benchmarks.methods.markov import MARKOV
from benchmarks.methods.naive_deep import NAIVE_DEEP
from benchmarks.methods.ours import OURS
from benchmarks.methods.paper import PAPER
from benchmarks.methods.regressions import REGRESSIONS
from benchmarks.methods.rules import RULES
from benchmarks.methods.shapley_channels import SHAPLEY_CHANNELS
from benchmarks.methods.t_learner import T_LEARNER

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *OURS, *RULES, MARKOV, SHAPLEY_CHANNELS, *REGRESSIONS, DML, T_LEARNER, DESCN, *NAIVE_DEEP, DNAMTA, CAUSAL_MTA,
        *FRONT_DOOR, *PAPER,
    )
}  # fmt: skip

__all__ = ["METHODS", "Method", "Scores"]
