"""Falsification battery: what the data at hand say against the judges' and the model's assumptions.

A failed *blocking* test forbids approval; a warning names its consequence. One test a module; `battery` runs them.
"""

from validation.falsification.audit import randomised_audit
from validation.falsification.base import FalsificationConfig, Finding, Ruling
from validation.falsification.battery import run_battery
from validation.falsification.calibration import calibration, calibration_curve
from validation.falsification.cells import cell_size
from validation.falsification.contamination import contamination, contamination_by_cluster
from validation.falsification.control import control_relevance, post_window
from validation.falsification.direct_path import agreement, direct_path
from validation.falsification.drift import drift, psi
from validation.falsification.leakage import leakage
from validation.falsification.overlap import positivity
from validation.falsification.placebo import later_touches, shuffled_users
from validation.falsification.relevance import fit_null, mediator_relevance, partial_slope

__all__ = [
    "FalsificationConfig",
    "Finding",
    "Ruling",
    "agreement",
    "calibration",
    "calibration_curve",
    "cell_size",
    "contamination",
    "contamination_by_cluster",
    "control_relevance",
    "direct_path",
    "drift",
    "fit_null",
    "later_touches",
    "leakage",
    "mediator_relevance",
    "partial_slope",
    "positivity",
    "post_window",
    "psi",
    "randomised_audit",
    "run_battery",
    "shuffled_users",
]
