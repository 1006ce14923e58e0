"""Rules of thumb: an upload's credit is shared out by place or age in the journey; credit_l = y · share_l.

first touch, last touch: all to one touch; linear: 1 / L; time decay: 2^(−gap / half-life) / Σ_k 2^(−gap_k / half-life).
They claim whole uploads, so no credit is ever a probability's change; they read neither x nor n and predict nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.methods.interface import Method, Scores
from model.baselines.last_touch import last_touch
from model.batch import Treatment
from model.data import JourneyTable

HALF_LIFE_HOURS = 24.0
SOURCE = "a rule, no package needed"


def first_touch(t: Treatment) -> Tensor:
    """1 at each journey's first touch. -> [B, L]."""
    first_BL = torch.zeros_like(t.mask_BL)
    first_BL[:, 0] = 1
    return first_BL * t.mask_BL


def time_decay(t: Treatment) -> Tensor:
    """Weights that halve every HALF_LIFE_HOURS, summing to 1 a journey. -> [B, L]."""
    weight_BL = torch.exp2(-(t.gap_hours_BL / HALF_LIFE_HOURS)) * t.mask_BL
    return weight_BL / weight_BL.sum(1, keepdim=True)


def linear(t: Treatment) -> Tensor:
    """The same weight for every touch. -> [B, L]."""
    return t.mask_BL / t.mask_BL.sum(1, keepdim=True)


def _rule(name: str, share: Callable[[Treatment], Tensor]) -> Method:
    def run(table: JourneyTable, row_J: Tensor, randomised: JourneyTable | None, seed: int) -> Scores:  # noqa: ARG001
        batch = table.batch(row_J)
        credit_BL = share(batch.treatment).double() * batch.label_B[:, None]
        return Scores(credit_N=credit_BL[batch.treatment.mask_BL.bool()].numpy())

    return Method(name=name, family="heuristic", source=SOURCE, run=run)


RULES = (
    _rule("last-touch", lambda t: last_touch(t.mask_BL)),
    _rule("first-touch", first_touch),
    _rule("linear", linear),
    _rule("time-decay", time_decay),
)
