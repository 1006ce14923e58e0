"""Candidates of whom the battery knows what it must find: one as sound as can be, one that is broken in every way.

                 sound                                              broken
    p(y)         logit y ~ controls + responses, cross-fitted       fitted on a tenth of the users, most uploads lost
    overlap      a bank of fit journeys as the model draws it       its smallest, nearly all of the most eager users
    snapshot     one half of the fit users against the other        another platform's users against these

Their mediator is the judges' own index and its mean by cluster. Where some exposures were drawn at random, the audit is
asked of a ranking that is better than its rival and, exchanged, of one that is worse.

Shapes: J journeys, T touches, B buckets, K clusters, N journeys of the bank, P profile columns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from model.bank import propensity_score
from model.data import JourneyTable
from model.front_door import Bank, bank_weights
from model.settings import ModelConfig
from model.snapshot import take_snapshot
from validation.falsification.leakage import journey_features
from validation.judge_arrays import SHARDS
from validation.judge_data import Diagnostics
from validation.logistic import cross_fit_logistic, fit_logistic
from validation.measured import Measured
from validation.shards import Floats, Ints, bin_sums
from validation.uplift_fd import outcome_controls

FEW, KEPT = 0.1, 0.35
"""Shares of the users that the broken candidate was fitted on, and of their uploads that it saw."""
EAGER_SHARE = 0.05
EAGER_IN_BANK, OTHERS_IN_BANK = 28, 4
OVERLAP_JOURNEYS = 5_000


def stand_in(measured: Measured) -> Diagnostics:
    """The judges' index as u, its mean per cluster as m."""
    if measured.fd is None:
        return Diagnostics()
    data, u_T = measured.data, measured.fd.index_T
    count_K = np.maximum(np.bincount(data.column_T, minlength=len(data.cluster_K)), 1)
    m_T = (np.bincount(data.column_T, u_T, len(data.cluster_K)) / count_K)[data.column_T]
    return Diagnostics(u_T=u_T, m_T=m_T, residual_J=bin_sums(data.journey_T, data.decay_T * (u_T - m_T), len(data.y_J)))


def sound(measured: Measured, table: JourneyTable, seed: int) -> tuple[Diagnostics, dict[str, Any]]:
    """The stand-in, with probabilities and overlap as they should be, and snapshots of one population."""
    diagnostics, data = stand_in(measured), measured.data
    design_Jp = _design(measured, diagnostics)
    p_obs_J = cross_fit_logistic(design_Jp, data.y_J, data.shard_J % 2, 2)
    drawn_N = np.random.default_rng(seed).permutation(len(table.split("fit")))[: ModelConfig().bank]
    return _with(diagnostics, p_obs_J, _overlap(table, drawn_N)), _snapshots(_half(table, 0), _half(table, 1))


def broken(
    measured: Measured, table: JourneyTable, elsewhere: JourneyTable, seed: int
) -> tuple[Diagnostics, dict[str, Any]]:
    """The stand-in, broken where a candidate's own parts can be; `elsewhere` are another platform's journeys."""
    diagnostics, data = stand_in(measured), measured.data
    design_Jp = _design(measured, diagnostics)
    few_J = data.shard_J < FEW * SHARDS
    few_J &= (data.y_J == 0) | (np.random.default_rng(seed).random(len(few_J)) < KEPT)
    p_obs_J = expit(design_Jp @ fit_logistic(design_Jp[few_J], data.y_J[few_J]))
    score_N = _scores(table)[table.split("fit").numpy()]
    eager_N = score_N >= np.quantile(score_N, 1 - EAGER_SHARE)
    bank_N = np.append(np.flatnonzero(eager_N)[:EAGER_IN_BANK], np.flatnonzero(~eager_N)[:OTHERS_IN_BANK])
    return _with(diagnostics, p_obs_J, _overlap(table, bank_N)), _snapshots(elsewhere, table)


def _design(measured: Measured, diagnostics: Diagnostics) -> Floats:
    """Everything that may be known of a journey's outcome, [J, p]."""
    control_Jp = outcome_controls(measured.data, measured.basis_JF)
    assert diagnostics.u_T is not None
    return np.concatenate([control_Jp, journey_features(diagnostics.u_T, measured.data)], axis=1)


def _with(diagnostics: Diagnostics, p_obs_J: Floats, overlap_ess_J: Floats) -> Diagnostics:
    """An overlap for every journey in place of one for every touch: the share that abstains is what is read."""
    abstained_J = (overlap_ess_J < ModelConfig().min_overlap_ess).astype(np.float64)
    return replace(diagnostics, p_obs_J=p_obs_J, overlap_ess_T=overlap_ess_J, abstained_T=abstained_J)


def _scores(table: JourneyTable) -> Floats:
    """The model's propensity score of every journey."""
    fit_J = table.split("fit").numpy()
    profile_JP = table.profile_JP.numpy().astype(np.float64)
    weight_P, bias = propensity_score(profile_JP[fit_J], table.label_J.numpy()[fit_J].astype(np.float64))
    return np.asarray(profile_JP @ weight_P + bias)


def _overlap(table: JourneyTable, drawn_N: Ints) -> Floats:
    """Effective size of a bank of these fit journeys, for some of the judge's journeys."""
    score_J = torch.from_numpy(_scores(table))
    nothing, one = torch.zeros(len(drawn_N), 0), torch.ones(1, dtype=torch.float64)
    bank = Bank(
        hidden_JH=nothing, residual_J=nothing, score_J=score_J[table.split("fit")][torch.from_numpy(drawn_N)],
        score_weight_P=one, score_bias=0 * one,
    )  # fmt: skip
    asked_J1 = score_J[table.split("judge")[:OVERLAP_JOURNEYS]][:, None]
    weight_JN = bank_weights(bank, asked_J1, ModelConfig().bank_bandwidth)
    return np.asarray(1 / (weight_JN**2).sum(1))


def _half(table: JourneyTable, half: int) -> JourneyTable:
    """The table with one half of the fit users alone in its fit split."""
    keys = table.keys
    ours = (keys["split"] == "fit") & (keys["user_id"] % 2 == half)
    return replace(table, keys=keys.assign(split=keys["split"].where(ours | (keys["split"] != "fit"), "other")))


def _snapshots(then: JourneyTable, now: JourneyTable) -> dict[str, Any]:
    """As `attribute` writes them for the judge."""
    champion = take_snapshot(then)
    return {"champion": champion, "logs": take_snapshot(now, champion["edges"])}
