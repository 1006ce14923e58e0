"""Direct path: OBS sees every effect, FD only those through the responses; where they differ, content acts outside.

    excess = SD(o − f) / SD(f),     corr = Cov(o, f) / (SD(o) SD(f)),     over cells, weighted by touches,
with the sampling noise of o and f, which the bootstrap knows, taken out of every moment.
Reference: Cochran (1968), "Errors of measurement in statistics", Technometrics 10(4), for the correction.

Shapes: R replicates (row 0 the sample), B buckets, K clusters.
"""

from __future__ import annotations

import numpy as np

from validation.falsification.base import Z_ONE_SIDED, FalsificationConfig, Finding, Ruling
from validation.gate import Blocking
from validation.judge_arrays import Exposure
from validation.shards import Floats, Replicates
from validation.uplift import Uplift, covariance


def direct_path(
    obs: Uplift, fd: Uplift, exposure: Exposure, replicates: Replicates, journeys: int, config: FalsificationConfig, *,
    control_holds: bool = True,
) -> list[Finding]:  # fmt: skip
    """OBS against FD: what OBS sees and FD does not is an effect that bypasses the responses. Noise is subtracted.

    Fails only where the correlation is surely (one-sided 95%) under its threshold, from `direct_path_journeys` on, and
    while later exposures look like the negative control that OBS takes them for (`control_holds`): what uploads do to
    the feed would be held against the front door. On selection worlds of 50,000 and 200,000 journeys the correlation
    came out at .93 to 1 where all holds, whichever way content and intent pull, and at .61 to .71 with a direct path;
    the excess at 0 to .5, and 1 to 1.5. The excess only warns: it compares scales too (8 with a single noisy response),
    and FD's is attenuated by whatever error responses measure inspiration with.
    """
    excess_R, corr_R = agreement(obs.u_RBK, fd.u_RBK, exposure, replicates)
    excess_se, corr_se = (_spread(value_R[replicates.boot]) for value_R in (excess_R, corr_R))
    return [
        _agreement_finding(
            "direct path, excess SD", excess_R[0], excess_se, config.direct_path_excess, wrong=1.0,
            may_block=False, powered=True,
            meaning="SD of OBS minus FD beyond noise, in SDs of FD: effects that bypass the responses.",
        ),
        _agreement_finding(
            "direct path, correlation", corr_R[0], corr_se, config.direct_path_corr, wrong=-1.0,
            may_block=True, powered=control_holds and journeys >= config.direct_path_journeys,
            meaning="Correlation of OBS with FD over cells, corrected for noise.",
        ),
    ]  # fmt: skip


def _spread(value_R: Floats) -> float:
    """Standard deviation over the replicates where the statistic is defined; NaN where that is not most of them."""
    defined_R = value_R[np.isfinite(value_R)]
    return float(defined_R.std(ddof=1)) if len(defined_R) > len(value_R) / 2 else float("nan")


def agreement(o_RBK: Floats, f_RBK: Floats, exposure: Exposure, replicates: Replicates) -> tuple[Floats, Floats]:
    """Excess SD and correlation per replicate; NaN where undefined."""
    pairs = ((o_RBK, o_RBK), (f_RBK, f_RBK), (o_RBK, f_RBK))
    oo_R, ff_R, of_R = (covariance(*pair, exposure, replicates) for pair in pairs)
    difference_R = np.maximum(oo_R + ff_R - 2 * of_R, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        excess_R = np.where(ff_R > 0, np.sqrt(difference_R / np.where(ff_R > 0, ff_R, 1.0)), np.nan)
        both_R = np.where((ff_R > 0) & (oo_R > 0), oo_R * ff_R, np.nan)
        corr_R = np.clip(of_R / np.sqrt(both_R), -1.0, 1.0)
    return excess_R, corr_R


def _agreement_finding(
    test: str,
    value: float,
    se: float,
    threshold: float,
    *,
    wrong: float,
    may_block: bool,
    powered: bool,
    meaning: str,
) -> Finding:
    """`wrong` is +1 where large values are bad, −1 where small ones are."""
    if not np.isfinite(value) or not np.isfinite(se):
        return Finding(
            test=test, statistic=None, threshold=threshold, verdict="no power", meaning=meaning,
            action="The judges' noise hides the effects; more journeys would tell.",
        )  # fmt: skip
    beyond = wrong * (value - threshold)
    failed = may_block and beyond > Z_ONE_SIDED * se
    verdict: Ruling = "pass"
    if beyond > 0:
        verdict = "warn" if not failed else "fail" if powered else "no power"
    reason = f"the judges disagree: content acts outside the responses ({test}: {value:.2f}, limit {threshold:.2f})"
    actions = {
        "pass": "none",
        "warn": "On the wrong side, but not by itself decisive: watch it as journeys accumulate.",
        "no power": "Valid worlds of this size, or with a broken control, fail too: read the two judges' curves.",
        "fail": "Do not trust FD, nor the model: they share the assumption that fails here.",
    }
    return Finding(
        test=test, statistic=float(value), threshold=threshold, verdict=verdict, meaning=meaning,
        action=actions[verdict], blocks=Blocking(reason=reason) if verdict == "fail" else None,
    )  # fmt: skip
