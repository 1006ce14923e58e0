"""Grouped uplift u_bk: what one judge measures for bucket b and cluster k, with its replicates.

The estimators live in uplift_raw.py (raw, IPW), uplift_obs.py (OBS) and uplift_fd.py (FD). This file has what they
share: the result, and empirical-Bayes shrinkage of a cluster's coefficient toward its mean over buckets:
    r̄_k = Σ_b r_bk/v_bk / Σ_b 1/v_bk,   r̃_bk = r̄_k + τ²/(τ² + v_bk) (r_bk − r̄_k),
τ² by moments (DerSimonian & Laird 1986), pooled over clusters; and two judges' covariance over cells, less noise:
    Cov(o, f) = Σ_b π_b Σ_k w_bk o_bk f_bk − mean over the bootstrap of the same of (o* − o, f* − f),
o and f less their bucket's mean.

Shapes: R replicates (row 0 the sample), B buckets, K clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from validation.judge_arrays import Exposure
from validation.shards import Floats, Replicates


@dataclass(frozen=True, kw_only=True)
class Uplift:
    """`u_RBK` on the probability scale; only a *usable* judge may be a key of the gate; `note` says why not."""

    judge: str
    u_RBK: Floats
    usable: bool
    note: str

    @property
    def sample(self) -> Floats:
        return np.asarray(self.u_RBK[0])


def shrink(r_RBK: Floats, v_BK: Floats) -> Floats:
    """Shrink each cluster toward its precision-weighted mean over buckets, per replicate."""
    B, K = v_BK.shape
    if B == 1:
        return r_RBK
    precision_BK = 1.0 / np.maximum(v_BK, 1e-300)
    total_K = precision_BK.sum(axis=0)
    mean_R1K = (r_RBK * precision_BK).sum(axis=1, keepdims=True) / total_K
    q_R = (precision_BK * (r_RBK - mean_R1K) ** 2).sum(axis=(1, 2))
    slack = (total_K - (precision_BK**2).sum(axis=0) / total_K).sum()
    tau2_R = np.maximum((q_R - K * (B - 1)) / slack, 0.0)[:, None, None]
    return np.asarray(mean_R1K + tau2_R / (tau2_R + v_BK) * (r_RBK - mean_R1K))


def covariance(o_RBK: Floats, f_RBK: Floats, exposure: Exposure, replicates: Replicates) -> Floats:
    """Cov(o, f) over cells, less sampling noise, which a bootstrap replicate carries twice, [R]."""
    weight_BK = exposure.w_BK * exposure.pi_B[:, None]
    o_RBK, f_RBK = (u_RBK - (u_RBK * exposure.w_BK).sum(axis=2, keepdims=True) for u_RBK in (o_RBK, f_RBK))
    noise_o, noise_f = (u_RBK[replicates.boot] - u_RBK[0] for u_RBK in (o_RBK, f_RBK))
    noise = (weight_BK * noise_o * noise_f).sum(axis=(1, 2)).mean()
    copies_R = np.full(len(o_RBK), 2.0)
    copies_R[0] = 1.0
    return np.asarray((weight_BK * o_RBK * f_RBK).sum(axis=(1, 2)) - copies_R * noise)
