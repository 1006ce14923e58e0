"""An evaluation as large and as varied as real ones, drawn from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

RANKINGS = {"candidate": 0.9, "champion": 0.55, "last_touch": 0.1, "naive": -0.3}
"""Ranking -> how well its order follows the true one."""
JUDGES = {"OBS": 0.0004, "FD": 0.0003, "raw": 0.001, "IPW": 0.001, "truth": 0.0}
"""Judge -> half width of its band, uploads per touch."""


def _curve(rng: np.random.Generator, judge: str, ranking: str, bucket: int) -> dict[str, Any]:
    share = np.linspace(0, 1, 41)
    level, skill = 0.002 * (1 + bucket), RANKINGS[ranking] * 0.004
    gain = level * share + skill * share * (1 - share) * 2 + rng.normal(0, 3e-5, 41) * (share > 0) * (share < 1)
    half = JUDGES[judge] * np.sqrt(share)
    curve: dict[str, Any] = {"judge": judge, "ranking": ranking, "bucket": bucket, "share": share.tolist()}
    bands = (
        {"low": (gain - half).tolist(), "high": (gain + half).tolist()} if half.any() else {"low": None, "high": None}
    )
    return {**curve, "gain": gain.tolist(), **bands}


def _area(judge: str, ranking: str, bucket: int | str) -> dict[str, Any]:
    area = 0.00065 * RANKINGS[ranking]
    return {
        "judge": judge,
        "ranking": ranking,
        "bucket": bucket,
        "area": area,
        "low": area - JUDGES[judge] / 3,
        "high": area + JUDGES[judge] / 3,
        "normalised": 0.5 + 0.45 * RANKINGS[ranking],
    }


def evaluation_example(seed: int = 7) -> dict[str, Any]:
    """The content of an evaluation.json."""
    rng = np.random.default_rng(seed)
    buckets = range(5)
    order = rng.permutation(40)
    clusters = [
        {
            "cluster_id": int(cluster),
            "credit_sum": float(rng.gamma(3, 40)),
            "mean_delta": float(0.012 - 0.0006 * place),
            "touches": int(rng.integers(2_000, 90_000)),
        }
        for place, cluster in enumerate(order)
        if place < 10 or place >= 30
    ]
    return {
        "verdict": "approved",
        "reasons": [
            "OBS: +5.85e-04 uploads a touch [+3.1e-04, +8.6e-04], FD: +4.9e-04 uploads a touch [+2.9e-04, +6.9e-04]",
            "No bucket is worse than the margin allows.",
        ],
        "identification": [
            {
                "what": "mediator evidence",
                "identified": True,
                "why": "watch ratio and likes measure inspiration after each touch.",
                "consequence": "Credits are causal under the front door.",
            },
            {
                "what": "randomised exposures",
                "identified": False,
                "why": "the logs mark none.",
                "consequence": "The scale of credits rests on the model; nothing audits it by design.",
            },
        ],
        "buckets": [
            {
                "bucket": bucket,
                "journeys": 8_011 - 13 * bucket,
                "uploads": 300 + 211 * bucket,
                "propensity_low": 0.02 + 0.04 * bucket,
                "propensity_high": 0.06 + 0.04 * bucket,
                "median_treated": 2_712,
            }
            for bucket in buckets
        ],
        "rankings": list(RANKINGS),
        "curves": [_curve(rng, j, r, b) for j in JUDGES for r in RANKINGS for b in buckets],
        "auuc": [_area(j, r, b) for j in JUDGES for r in RANKINGS for b in ("all", *buckets)],
        "gate": {
            "champion": "champion v3",
            "keys": [
                {"judge": "OBS", "delta": 5.85e-4, "low": 3.1e-4, "high": 8.6e-4, "usable": True, "note": ""},
                {
                    "judge": "FD",
                    "delta": 4.9e-4,
                    "low": 2.9e-4,
                    "high": 6.9e-4,
                    "usable": True,
                    "note": "shares the candidate's exclusion assumption",
                },
            ],
            "area_low": 4e-4,
            "journeys_needed": None,
        },
        "falsification": [
            {
                "test": "mediator relevance",
                "statistic": 14.72,
                "threshold": 5.0,
                "verdict": "pass",
                "meaning": "The same after removing each journey's mean, which hidden intent could shift.",
                "action": "none",
            },
            {
                "test": "contaminated responses",
                "statistic": 0.0312,
                "threshold": 0.02,
                "verdict": "warn",
                "meaning": "People who mean to create respond more to everything.",
                "action": "The within-journey contrast is mandatory, and on.",
            },
            {
                "test": "post-window exposures",
                "statistic": None,
                "threshold": 10.0,
                "verdict": "no power",
                "meaning": "Wald/df of later exposures on uploads after the adjustment.",
                "action": "none",
            },
            {
                "test": "cell size",
                "statistic": 1801.0,
                "threshold": 2500.0,
                "verdict": "fail",
                "meaning": "Journeys with a touch of the cluster, in the median cell.",
                "action": "Collect about 55,500 judge journeys.",
            },
        ],
        "sensitivity": [
            {
                "judge": "FD",
                "threat": "Direct path T -> Y past the responses",
                "claim": "Better than champion v3",
                "estimate": 4.9e-4,
                "unit": "SDs of the measured effects",
                "aligned": 0.5783,
                "unsure": 0.4329,
                "random": 3.046,
                "meaning": "To overturn the claim it must reach 0.58 SD of the measured effects.",
            },
            {
                "judge": "FD",
                "threat": "Confounder of exposure and mediator within journeys",
                "claim": "Better than champion v3",
                "estimate": 0.0993,
                "unit": "share of what is left of responses and of exposure",
                "aligned": 0.1192,
                "unsure": 0.1144,
                "random": None,
                "meaning": "To overturn the claim it must explain 11.9% of what journeys leave open of both.",
            },
        ],
        "calibration": [
            {
                "journeys": 800,
                "predicted": 0.02 + 0.03 * tenth,
                "observed": 0.018 + 0.031 * tenth,
                "low": 0.012 + 0.028 * tenth,
                "high": 0.026 + 0.034 * tenth,
            }
            for tenth in range(10)
        ],
        "metrics": {
            "upload_auc": 0.7134,
            "upload_log_loss": 0.2871,
            "coverage": 0.5812,
            "touches_per_covered_upload": 7.31,
            "auuc_candidate_OBS": 0.905,
            "auuc_candidate_FD": 0.912,
            "truth_corr": 0.8213,
            "truth_corr_naive": 0.0121,
            "truth_slope": 1.72,
            "truth_slope_naive": 0.004,
            "truth_pehe_over_sd": 0.731,
            "truth_pehe_over_sd_naive": 1.4412,
            "top1_efficiency": 11.83,
            "top1_efficiency_naive": 0.87,
        },
        "clusters": clusters,
        "creators": [
            {
                "author_id": 9_000 + i,
                "credit_sum": 120.0 / (i + 1),
                "touches": 41_200 // (i + 1),
                "covered_uploads": 900 // (i + 1),
            }
            for i in range(12)
        ],
        "training": {
            "epochs": [
                {
                    "epoch": epoch,
                    "train_loss": 0.9 * 0.8**epoch + 0.4,
                    "selection_loss": 0.9 * 0.82**epoch + 0.43,
                    "train_bce": 0.3 * 0.9**epoch + 0.25,
                    "selection_bce": 0.3 * 0.91**epoch + 0.26,
                }
                for epoch in range(6)
            ]
        },
        "data_quality": [
            {"suite": "touchpoints", "success": True, "warnings": []},
            {
                "suite": "training_facts",
                "success": False,
                "warnings": [
                    "training_facts.profile_null_share: at most 50% of journeys have no profile (they are imputed); "
                    "observed 0.61"
                ],
            },
        ],
        "counts": {
            "journeys": 40_021,
            "touches": 644_312,
            "splits": {"fit": 28_013, "selection": 4_002, "judge": 8_006},
        },
        "model": {"sha256": "5d1f" * 16, "feature_schema_hash": "9a3c" * 16},
    }
