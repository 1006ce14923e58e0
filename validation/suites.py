"""What is expected of the logs and of the training table; `validation.gx_duckdb` runs it.

A suite `<table>` looks at rows; `logs_facts` and `training_facts` look at one row of figures about whole tables
(`validation.quality_views`), a column each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from great_expectations.expectations.expectation import Expectation

from features.contract import EARLIEST_SENSIBLE, RESPONSES, TABLES, Table
from features.journeys import JourneyConfig
from validation.data_quality import Champion, QualityLimits
from validation.expectations import (
    among,
    between,
    fact,
    has_rows,
    labels_arrived,
    mostly_present,
    not_null,
    overlap,
    steady,
    top_share,
    unique,
)
from validation.gx_duckdb import Suite

LEAST_PROPENSITY = 0.005
"""A cluster that fewer of a stratum's journeys have, or lack, is no treatment there."""
RECENT_DAYS = 2
"""Journeys of so many last days show whether uploads arrive later than touches."""

# ---------------------------------------------------------------- the training table


def training_suites(
    columns: Sequence[str], journeys: JourneyConfig, limits: QualityLimits, champion: Champion | None = None
) -> tuple[Suite, ...]:
    """Suites on the training table (`columns`: its names), touches, facts, overlap, and the judge's exposures."""
    return (
        Suite(name="training_table", expectations=tuple(_training_rows(columns, journeys, limits))),
        Suite(name="touches", expectations=tuple(_touches(limits, champion))),
        Suite(name="training_facts", expectations=(has_rows(), *_training_facts(limits))),
        Suite(
            name="cluster_overlap",
            expectations=(
                has_rows("warning", meaning="the judge has journeys with clusters to compare"),
                overlap("cluster_id", limits.overlap_share, LEAST_PROPENSITY),
            ),
        ),
        Suite(
            name="judge_exposures",
            expectations=(
                has_rows("warning", meaning="there are exposures after the horizon (the judge's control)"),
                not_null("journey_id"),
                not_null("cluster_id"),
                between("n_touches", 1, None, meaning="n_touches counts exposures after the horizon"),
            ),
        ),
    )


def _touches(limits: QualityLimits, champion: Champion | None) -> Iterable[Expectation]:
    """Drift is checked of what is a column here: clusters and responses (encoded profiles: `falsification.drift`)."""
    yield has_rows()
    yield top_share("cluster_id", limits.top_cluster_share, what="cluster")
    if champion is not None:
        counts = champion.snapshot["clusters"]["cluster"]
        yield steady("cluster_id", counts, limits.drift_psi, values=champion.clusters)
        for name, counts in champion.snapshot["responses"].items():
            yield steady(name, counts, limits.drift_psi, edges=champion.snapshot["edges"][name])


def _training_rows(columns: Sequence[str], journeys: JourneyConfig, limits: QualityLimits) -> Iterable[Expectation]:
    longest, window = journeys.max_touches, journeys.control_start_days - journeys.control_end_days
    yield has_rows()
    for column in ("journey_id", "user_id", "t_obs", "offset", "length", "label", "split", "n_control"):
        yield not_null(column)
    yield among("label", (0, 1), meaning="label is 0 or 1")
    yield among("label_has_its_upload", (True,), meaning="label is 1 exactly where an upload is recorded")
    yield between(
        "hours_to_upload",
        0,
        journeys.horizon_hours,
        strict_low=True,
        meaning=f"the upload comes within {journeys.horizon_hours} h after t_obs",
    )
    yield labels_arrived("label", "t_obs", RECENT_DAYS, limits.recent_label_share)
    yield among("split", ("fit", "selection", "judge"), meaning="split is fit, selection or judge")
    yield between("length", 1, longest, meaning=f"a journey has 1 to {longest} touches")
    yield between("offset", 0, None, meaning="a journey starts inside the touch table")
    yield between("n_control", 0, None, meaning="n_control counts uploads")
    yield between("n_days_covered", 0, window, meaning=f"n_days_covered counts days of {window}")
    for column in columns:
        if column.startswith("activity__"):
            yield between(column, 0, None, "warning", meaning=f"{column} is not negative")


def _training_facts(limits: QualityLimits) -> Iterable[Expectation]:
    for split in ("fit", "selection", "judge"):
        yield fact(f"{split}_rows", 1, None, "critical", meaning=f"the {split} split has journeys")
    for split in ("fit", "judge"):
        yield fact(f"{split}_uploads", 1, None, "critical", meaning=f"the {split} split has uploads")
        yield fact(
            f"{split}_without_upload", 1, None, "critical", meaning=f"the {split} split has journeys without upload"
        )
    yield fact("selection_uploads", 1, None, "warning", meaning="the selection split has uploads")
    yield fact("users_in_two_splits", 0, 0, "critical", meaning="no user is in two splits")
    yield unique("ids_repeated", ("journey_id",), of="journeys")
    yield unique("moments_repeated", ("user_id", "t_obs"), of="journeys")
    yield unique("exposures_repeated", ("journey_id", "cluster_id"), of="of the judge's exposures")
    yield fact("rows_changed_by_retrieval", 0, 0, "critical", meaning="every journey came back once, unchanged")
    yield fact("touches_out_of_range", 0, 0, "critical", meaning="no journey reaches beyond the touch table")
    yield fact("touches_after_t_obs", 0, 0, "critical", meaning="no journey holds a touch after its t_obs")
    yield fact(
        "label_rate",
        limits.label_rate_low,
        limits.label_rate_high,
        "warning",
        meaning=f"uploads follow {limits.label_rate_low:.2%} to {limits.label_rate_high:.0%} of journeys",
    )
    yield fact(
        "profile_null_share",
        None,
        limits.profile_null_share,
        "warning",
        meaning=f"at most {limits.profile_null_share:.0%} of journeys have no profile (they are imputed)",
    )


# ---------------------------------------------------------------- the raw logs


def log_suites(present: Mapping[str, Sequence[str]], limits: QualityLimits) -> tuple[Suite, ...]:
    """A suite per table of the contract that is there, and one on figures about all of them.

    present: table -> the contract's columns that its files hold.
    """
    tables = [TABLES[name] for name in TABLES if name in present]
    suites = [Suite(name=table.name, expectations=_log_rows(table, present[table.name], limits)) for table in tables]
    responses = [name for name in RESPONSES if name in present["touchpoints"]]
    facts = Suite(name="logs_facts", expectations=(has_rows(), *_log_facts(tables, responses, limits)))
    return (*suites, facts)


def _log_rows(table: Table, present: Sequence[str], limits: QualityLimits) -> tuple[Expectation, ...]:
    expectations = [has_rows()]
    for column in (column for column in table.columns if column.name in present):
        if column.required:
            expectations.append(not_null(column.name))
        if column.low is not None or column.high is not None:
            meaning = f"{column.name} lies in its range [{column.low}, {column.high}]"
            expectations.append(between(column.name, column.low, column.high, meaning=meaning))
        if column.is_timestamp:
            meaning = f"{column.name} is not before {EARLIEST_SENSIBLE:%Y-%m-%d}"
            expectations.append(between(column.name, EARLIEST_SENSIBLE, None, meaning=meaning))
        if column.is_embedding:
            meaning = f"{column.name} holds finite numbers"
            expectations.append(among(f"{column.name}_is_finite", (True,), meaning=meaning))
            meaning = f"{column.name} has one dimension throughout"
            expectations.append(among(f"{column.name}_has_usual_length", (True,), meaning=meaning))
    known = {column.name for column in table.columns}
    if table.name == "touchpoints":
        expectations.append(top_share("cluster_id", limits.top_cluster_share, what="cluster"))
        expectations.append(top_share("user_id", limits.top_user_share, what="user"))
    expectations += [mostly_present(name, limits.profile_null_share) for name in present if name not in known]
    return tuple(expectations)


def _log_facts(tables: Sequence[Table], responses: Sequence[str], limits: QualityLimits) -> Iterable[Expectation]:
    for table in tables:
        yield unique(f"{table.name}_repeated", table.key, of=table.name)
    yield fact("clusters", 2, None, "warning", meaning="there are clusters to compare")
    yield fact("users_who_upload", 1, None, "critical", meaning="somebody uploads")
    yield fact("uploaders_with_touches", 1, None, "critical", meaning="somebody who uploads has consumed something")
    yield fact(
        "days", 17, None, "warning", meaning="the logs span 17 days (7 lookback, 1 horizon, 7 after it, 2 to spare)"
    )
    yield fact(
        "days_missing_share",
        None,
        limits.days_missing_share,
        "warning",
        meaning=f"at most {limits.days_missing_share:.0%} of the days have no touch",
    )
    for name in responses:
        yield fact(f"{name}_varies", 1, None, "warning", meaning=f"{name} takes more than one value")
        yield fact(
            f"{name}_null_share",
            None,
            limits.response_null_share,
            "warning",
            meaning=f"at most {limits.response_null_share:.0%} of touches lack {name}",
        )
