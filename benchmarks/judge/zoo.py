"""The zoo: rankings of clusters whose quality is known, and differs.

    perturbed truth    score = r z(u) + √(1 − r²) ε,   z(u) = true mean effect of a cell, standardised over its bucket,
                       ε = √¾ (a cluster's error) + √¼ (a cell's error), standard normal
    harmful            the truth, but reversed in the last bucket
    trained            what a method's credits come to, as a mean per cell

Errors are mostly a cluster's, as a model's are: it misjudges content, whoever sees it.

Shapes: B buckets, K clusters, T touches.
"""

from __future__ import annotations

import numpy as np

from validation.shards import Floats

LEVELS = (1.0, 0.95, 0.9, 0.8, 0.65, 0.5, 0.25, 0.0, -0.5, -1.0)
"""r of the perturbed truths."""
CLUSTER_SHARE = 0.75
"""Share of an error's variance that a cluster has in every bucket."""


def perturbed(u_BK: Floats, w_BK: Floats, rng: np.random.Generator) -> dict[str, Floats]:
    """Score of every cell by ranking, from the true effects and the exposure shares."""
    z_BK = _standardised(u_BK, w_BK)
    scores = {}
    for r in LEVELS:
        cluster_K, cell_BK = rng.standard_normal(u_BK.shape[1]), rng.standard_normal(u_BK.shape)
        error_BK = np.sqrt(CLUSTER_SHARE) * cluster_K + np.sqrt(1 - CLUSTER_SHARE) * cell_BK
        scores[f"truth {r:g}"] = r * z_BK + np.sqrt(1 - r**2) * error_BK
    harmful_BK = z_BK.copy()
    harmful_BK[-1] *= -1
    return scores | {"harmful": harmful_BK}


def _standardised(u_BK: Floats, w_BK: Floats) -> Floats:
    mean_B1 = (w_BK * u_BK).sum(1, keepdims=True)
    sd_B1 = np.sqrt((w_BK * (u_BK - mean_B1) ** 2).sum(1, keepdims=True))
    return np.asarray((u_BK - mean_B1) / np.maximum(sd_B1, 1e-12))
