"""What every attribution method of the benchmark takes and gives. J journeys, N touches (flat, oldest first)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.data import JourneyTable

Floats = NDArray[np.float64]
Family = Literal["heuristic", "back-door", "front-door", "ours"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a method says of one data set."""

    credit_N: Floats
    """Δ̂ (heuristics: attributed uploads) of every touch of the rows asked for, journey after journey."""
    stderr_N: Floats | None = None
    abstained_N: NDArray[np.bool_] | None = None
    p_J: Floats | None = None
    """P(Y=1 | all that the method may read) of the rows asked for, observational; None: it predicts nothing."""
    p_randomised_J: Floats | None = None
    """The same of all rows of the randomised table."""


Run = Callable[[JourneyTable, Tensor, JourneyTable | None, int], Scores]
"""(table, rows asked for, table of the same world under randomised exposure, seed) -> Scores.

Fits on `table.split("fit")` alone, with "selection" for early stopping; the same seed gives the same scores.
"""


@dataclass(frozen=True, kw_only=True)
class Method:
    name: str
    family: Family
    source: str
    """Package and version it comes from, or the paper that was re-implemented."""
    run: Run
