"""What every test of the battery shares: its thresholds, and how it reports.

Thresholds were measured at 200,000 journeys and scale with the sample: a t statistic with √n, Wald/df − 1 with n. Where
a valid world of the size at hand could not pass, a test says 'no power' instead of failing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from scipy.stats import chi2

from features.errors import ConfigError
from validation.gate import Blocking
from validation.uplift_obs import REFERENCE_JOURNEYS

Z_ONE_SIDED = 1.645

Ruling = Literal["pass", "fail", "warn", "no power"]
"""'fail' and 'warn' say that an assumption looks broken, 'no power' that these logs cannot tell."""


@dataclass(frozen=True, kw_only=True)
class FalsificationConfig:
    """Thresholds, as measured at 200,000 journeys."""

    relevance_t: float = 5.0
    """Least t of the mediator's residual on the outcome."""
    contamination: float = 0.02
    """Most correlation of the mediator's residual with uploads before the window."""
    cluster_contamination_wald: float = 8.0
    """Most Wald/df of within-journey responses by cluster on uploads before the window."""
    post_window_wald: float = 10.0
    """Most Wald/df of post-horizon exposures after adjustment."""
    direct_path_excess: float = 0.5
    """Most excess SD of OBS against FD, in SDs of FD."""
    direct_path_corr: float = 0.85
    """Least correlation of OBS with FD, corrected for noise."""
    direct_path_journeys: int = 40_000
    """Journeys from which on that correlation may block."""
    min_treated: int = 2_500
    """Least treated journeys of the median cell (bucket x cluster)."""
    later_share: float = 0.15
    """Most credit of responses to later touches, as a share of the real responses' credit."""
    shuffled_share: float = 0.05
    """Most credit of journeys that were given to other users, as a share of the real credit."""
    shuffles: int = 5
    """How often journeys are given to other users."""
    leakage: float = 0.1
    """Most of the log-loss that a response may explain beyond controls and the trusted response."""
    leakage_untrusted: float = 0.5
    """The same beyond controls alone, where the logs have no trusted response."""
    abstained_warn: float = 0.1
    """Share of abstaining credits from which on overlap is weak."""
    abstained_fail: float = 0.5
    """Share of abstaining credits from which on nothing can be approved."""
    calibration: float = 0.2
    """How far slope and level of the factual probability may be off, on the logit."""
    drift_psi: float = 0.25
    """Most population stability index of an input against the champion's training."""

    def __post_init__(self) -> None:
        if min(asdict(self).values()) <= 0:
            raise ConfigError(f"judge.falsification: every threshold must be positive, not {asdict(self)}")
        if self.abstained_fail < self.abstained_warn:
            raise ConfigError(
                f"judge.falsification: abstained_fail = {self.abstained_fail} must not be under abstained_warn = "
                f"{self.abstained_warn}"
            )


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One test's outcome, as the report prints it; `blocks` is set where it forbids approval."""

    test: str
    statistic: float | None
    threshold: float
    verdict: Ruling
    meaning: str
    action: str
    blocks: Blocking | None = None


def wald_threshold(at_reference: float, journeys: int, df: int) -> float:
    """A threshold of Wald/df at this sample size; never under what noise reaches once in 1000."""
    scaled = 1 + (at_reference - 1) * journeys / REFERENCE_JOURNEYS
    return float(max(scaled, chi2.ppf(0.999, df) / df))
