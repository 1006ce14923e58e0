"""From measured uplift to a key of the gate: one judge's view of challenger against champion.

    Δ_b = π_b Σ_k w u (s_champion − s_challenger) = π_b (A_b(challenger) − A_b(champion)),   Δ = Σ_b Δ_b
Both areas are linear in u, so that a replicate of u is a replicate of Δ: users are the same on both sides.

Shapes: R replicates, B buckets, K clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

from validation.auuc import area_per_bucket, cross_fitted_oracle, luck_area, positions
from validation.gate import Key
from validation.judge_arrays import Exposure
from validation.shards import Floats, Replicates
from validation.uplift import Uplift


@dataclass(frozen=True, kw_only=True)
class Judge:
    """One measurement of uplift, with what every pair of rankings is held against."""

    uplift: Uplift
    exposure: Exposure
    replicates: Replicates
    oracle: float
    """Cross-fitted A_oracle."""
    luck: float
    """The A that one in twenty random orders of the clusters exceeds."""

    def areas(self, score_BK: Floats) -> Floats:
        """π_b A_b of a ranking, per replicate. [R, B]."""
        w_BK = self.exposure.w_BK
        return area_per_bucket(self.uplift.u_RBK, positions(score_BK, w_BK), w_BK) * self.exposure.pi_B

    def key(self, own_RB: Floats, rival_RB: Floats) -> Key:
        """The key from the areas of challenger and champion."""
        boot, delta_RB = self.replicates.boot, own_RB - rival_RB
        return Key(
            judge=self.uplift.judge,
            usable=self.uplift.usable,
            note=self.uplift.note,
            delta=float(delta_RB[0].sum()),
            se=float(delta_RB[boot].sum(axis=1).std(ddof=1)),
            delta_b=tuple(delta_RB[0].tolist()),
            se_b=tuple(delta_RB[boot].std(axis=0, ddof=1).tolist()),
            share_b=tuple(self.exposure.pi_B.tolist()),
            area=float(own_RB[0].sum()),
            area_se=float(own_RB[boot].sum(axis=1).std(ddof=1)),
            oracle=self.oracle,
            luck=self.luck,
        )


def seat(uplift: Uplift, exposure: Exposure, replicates: Replicates, *, seed: int) -> Judge:
    """The judge, ready to compare; `seed` draws the random orders behind `luck`."""
    oracle_B = cross_fitted_oracle(uplift.u_RBK, exposure.w_BK, replicates)
    return Judge(
        uplift=uplift,
        exposure=exposure,
        replicates=replicates,
        oracle=float(oracle_B @ exposure.pi_B),
        luck=luck_area(uplift.sample, exposure, seed=seed),
    )
