"""The battery, in the report's order: first what may block, then what warns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from validation.buckets import Buckets
from validation.falsification.base import FalsificationConfig, Finding
from validation.falsification.calibration import calibration
from validation.falsification.cells import cell_size
from validation.falsification.contamination import contamination, contamination_by_cluster
from validation.falsification.control import control_relevance, post_window
from validation.falsification.direct_path import direct_path
from validation.falsification.drift import drift
from validation.falsification.leakage import leakage
from validation.falsification.overlap import positivity
from validation.falsification.placebo import later_touches, shuffled_users
from validation.falsification.relevance import mediator_relevance
from validation.judge_arrays import Exposure, JudgeArrays
from validation.judge_data import Diagnostics
from validation.shards import Floats, Replicates
from validation.uplift import Uplift
from validation.uplift_obs import Obs


def run_battery(
    *, data: JudgeArrays, basis_JF: Floats, buckets: Buckets, exposure: Exposure, replicates: Replicates,
    obs: Obs, fd: Uplift | None, diagnostics: Diagnostics, config: FalsificationConfig,
    snapshots: Mapping[str, Any] | None = None, seed: int = 0,
) -> list[Finding]:  # fmt: skip
    """Every test that the logs allow; a test whose input is absent is left out (identification says why).

    `snapshots` are credits/summary.json's, `seed` is that of the shuffles.
    """
    J, seen = len(data.y_J), diagnostics
    findings = [cell_size(buckets, J, config), *leakage(data, basis_JF, seen.u_T, config)]
    if fd is not None and seen.u_T is not None and seen.m_T is not None:
        findings += mediator_relevance(data, basis_JF, seen.u_T - seen.m_T, config)
    later_shown = [post_window(obs, J, config)] if np.isfinite(obs.post_window) else []
    findings += later_shown
    if fd is not None and obs.uplift.usable:
        holds = all(finding.verdict == "pass" for finding in later_shown)
        findings += direct_path(obs.uplift, fd, exposure, replicates, J, config, control_holds=holds)
    if seen.overlap_ess_T is not None and seen.abstained_T is not None:
        findings.append(positivity(seen.overlap_ess_T, seen.abstained_T, config))
    if seen.residual_J is not None and data.n_J.var() > 0:
        findings.append(contamination(data, basis_JF, seen.residual_J, config))
    if seen.u_T is not None and data.n_J.var() > 0:
        findings.append(contamination_by_cluster(data, basis_JF, seen.u_T, config))
    if fd is not None:
        later = later_touches(data, basis_JF, config)
        findings += [] if later is None else [later]
        findings.append(shuffled_users(data, buckets, exposure, basis_JF, fd, config, seed=seed))
    if obs.df:
        findings.append(control_relevance(obs))
    if seen.p_obs_J is not None:
        findings += calibration(seen.p_obs_J, data.y_J, data.shard_J, config)
    return [*findings, *drift(snapshots or {}, config)]
