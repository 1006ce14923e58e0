"""The worlds by name: those that everything is tuned on, and those that are only reported.

Judges have worlds of their own beside them (JUDGE_WORLDS), in which what they rest on fails: the estimator does not
read what these change, or other worlds show what it makes of it.

Report worlds have other sizes, other strengths of confounding and affinity, other decay, and other seeds; what content
does in the logit world (effect_mean, effect_shape, personal_sd) is the same in both. They were set once, by judgement.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from validation.worlds.base import World
from validation.worlds.competing_risk import CompetingRiskWorld
from validation.worlds.direct_path import DirectPathWorld
from validation.worlds.drift import DriftWorld
from validation.worlds.feedback import FeedbackWorld
from validation.worlds.heavy_tailed import HeavyTailedWorld
from validation.worlds.leaky import LeakyProxyWorld, LeakyResponseWorld
from validation.worlds.logit import LogitWorld
from validation.worlds.saturating import SaturatingWorld

WORLDS: dict[str, World] = {
    "logit": LogitWorld(),
    "no-effect": LogitWorld(effect_scale=0.0),
    "contaminated": LogitWorld(contamination=0.7),
    "saturating": SaturatingWorld(),
    "competing-risk": CompetingRiskWorld(),
    "leaky-response": LeakyResponseWorld(),
    "leaky-proxy": LeakyProxyWorld(),
    "direct-path": DirectPathWorld(),
    "no-confounding": LogitWorld(confounding=0.0),
    "same-direction": LogitWorld(affinity_corr=0.6),
    "weak-responses": LogitWorld(responses=("liked",), flip_share=0.05),
    "variable-length": LogitWorld(touches=64, shortest_session=1, effect_mean=0.06),
    "heavy-tailed": HeavyTailedWorld(),
    "drift": DriftWorld(),
    "dense": SaturatingWorld(touches=32, contamination=0.7, personal_sd=0.6, saturation=2.5),
}

JUDGE_WORLDS: dict[str, World] = {
    "feedback": FeedbackWorld(),
    "noisy-control": LogitWorld(control_noise=0.8),
    "direct-path-and-feedback": FeedbackWorld(direct_effect=0.10),
}

_ELSEWHERE: dict[str, Any] = {
    "clusters": 48,
    "items": 2_400,
    "authors": 500,
    "embedding_dim": 24,
    "profile_dim": 5,
    "touches": 14,
    "confounding": 1.4,
    "affinity": 0.45,
    "affinity_corr": -0.55,
    "profile_affinity": 0.35,
    "upload_rate": 0.09,
    "background_rate": 1.2,
    "background_confounding": 0.6,
    "decay_hours": 10.0,
    "mean_gap_minutes": 7.0,
}

_REPORTED: dict[str, dict[str, Any]] = {
    "logit": {},
    "no-effect": {},
    "contaminated": {"contamination": 0.6},
    "saturating": {"saturation": 1.8},
    "competing-risk": {"modification": 0.4, "effect_scale": 0.011},
    "leaky-response": {"leak": 0.95, "leak_reach": 1.8},
    "leaky-proxy": {"leak": 0.97, "match": 0.45},
    "direct-path": {"direct_effect": 0.12},
    "no-confounding": {"confounding": 0.0},
    "same-direction": {"affinity_corr": 0.55},
    "weak-responses": {"flip_share": 0.04},
    "variable-length": {"touches": 64, "effect_mean": 0.05},
    "heavy-tailed": {"tail_df": 2.0, "tail_scale": 1.2},
    "drift": {"drift": 0.7},
    "dense": {"touches": 36, "contamination": 0.6, "personal_sd": 0.55, "saturation": 2.2},
}

_JUDGE_REPORTED: dict[str, dict[str, Any]] = {
    "feedback": {"feedback": 0.4},
    "noisy-control": {"control_noise": 1.0},
    "direct-path-and-feedback": {"direct_effect": 0.12, "feedback": 0.4},
}

REPORT_WORLDS: dict[str, World] = {
    name: replace(WORLDS[name], **(_ELSEWHERE | changes)) for name, changes in _REPORTED.items()
}
JUDGE_REPORT_WORLDS: dict[str, World] = {
    name: replace(JUDGE_WORLDS[name], **(_ELSEWHERE | changes)) for name, changes in _JUDGE_REPORTED.items()
}
