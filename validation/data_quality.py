"""Data-quality checkpoints: the raw logs before anything is spent on them, the training table before a model sees it.

Severities: *critical* stops the run (ValidationFailed); *warning* is returned and carried into the report; *info*
stays in the Data Docs. The contract's own rules (`features.contract`) are critical; what is unusual but usable warns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from features.errors import ConfigError, ValidationFailed
from features.files import read_json, write_json
from features.journey_files import TRAINING_TABLE, part_files
from features.journeys import JourneyConfig
from features.reader import Logs
from validation.quality_views import create_log_views, create_training_views

if TYPE_CHECKING:  # Great Expectations takes seconds to import: only where a checkpoint runs
    from validation.gx_duckdb import Suite, SuiteResult


@dataclass(frozen=True, kw_only=True)
class QualityLimits:
    """Beyond these the data are usable but unusual: warnings, unless said otherwise."""

    label_rate_low: float = 0.0005
    """Least usual share of journeys followed by an upload."""
    label_rate_high: float = 0.5
    """Greatest usual share of journeys followed by an upload."""
    top_cluster_share: float = 0.5
    """Greatest usual share of touches in one content cluster."""
    top_user_share: float = 0.05
    """Greatest usual share of touches by one user."""
    profile_null_share: float = 0.5
    """Greatest usual share of journeys without any profile."""
    response_null_share: float = 0.5
    """Greatest usual share of touches without a given response."""
    days_missing_share: float = 0.1
    """Greatest usual share of days, between the first and the last, without any touch."""
    drift_psi: float = 0.25
    """Greatest usual population stability index of clusters and responses against the champion's training."""
    overlap_share: float = 0.9
    """Least usual share of judged journeys whose like have been seen with and without each cluster."""
    recent_label_share: float = 0.5
    """Least usual rate of uploads after journeys of the last days, as a share of the rate before."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} is a share between 0 and 1, not {value}")
        if self.label_rate_low > self.label_rate_high:
            raise ConfigError(f"label_rate_low {self.label_rate_low} > label_rate_high {self.label_rate_high}")


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What the inputs looked like when the champion was fitted: its bundle's snapshot.json, and its clusters."""

    snapshot: Mapping[str, Any]
    clusters: tuple[int, ...]

    @classmethod
    def read(cls, bundle: Path) -> Champion | None:
        """From the folder of a bundle; None where an older bundle has no snapshot."""
        if not (bundle / "snapshot.json").is_file():
            return None
        clusters = tuple(read_json(bundle / "manifest.json")["schema"]["clusters"])
        return cls(snapshot=read_json(bundle / "snapshot.json"), clusters=clusters)


@dataclass(frozen=True, kw_only=True)
class SuiteReport:
    """One suite's outcome: `success` is false where there are warnings."""

    suite: str
    success: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the checkpoints found that did not stop the run."""

    suites: tuple[SuiteReport, ...]

    def as_dicts(self) -> list[dict[str, Any]]:
        """The `data_quality` entry of evaluation.json."""
        return [{**asdict(suite), "warnings": list(suite.warnings)} for suite in self.suites]


def validate_logs(logs: Logs, out: Path, *, limits: QualityLimits | None = None) -> Report:
    """Check raw logs that keep the contract: its rules again, documented, and what is unusual about them.

    Writes `out`/data_quality.json and `out`/data_docs/index.html, also where it then raises ValidationFailed.
    """
    _quiet_imports()
    from validation.suites import log_suites

    present = {table: [column.name for column in columns] for table, columns in logs.columns.items()}
    suites = log_suites(present, limits or QualityLimits())
    return _check("logs", suites, lambda connection: create_log_views(connection, logs), logs.latest_ts, out)


def validate_training_table(
    journeys_dir: Path,
    data_dir: Path,
    out: Path,
    *,
    limits: QualityLimits | None = None,
    champion: Path | None = None,
) -> Report:
    """Check `data_dir`/training_table against its invariants, `journeys_dir` and what `champion` was fitted on.

    champion: folder of the champion's bundle; without one, drift is left to `falsification.drift`.
    Writes `out`/data_quality.json and `out`/data_docs/index.html, also where it then raises ValidationFailed.
    """
    import pyarrow.parquet as pq

    _quiet_imports()
    from validation.suites import training_suites

    manifest = read_json(journeys_dir / "manifest.json")
    columns = pq.read_schema(part_files(data_dir, TRAINING_TABLE)[0]).names
    fitted = Champion.read(champion) if champion else None
    suites = training_suites(columns, JourneyConfig(**manifest["config"]), limits or QualityLimits(), fitted)

    def create_views(connection: duckdb.DuckDBPyConnection) -> None:
        create_training_views(connection, data_dir=data_dir, journeys_dir=journeys_dir)

    return _check("training_table", suites, create_views, datetime.fromisoformat(manifest["latest_ts"]), out)


def _quiet_imports() -> None:
    """At INFO, Great Expectations logs hundreds of lines about itself, most of them while it is imported."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)


def _check(
    name: str,
    suites: Sequence[Suite],
    create_views: Callable[[duckdb.DuckDBPyConnection], None],
    as_of: datetime,
    out: Path,
) -> Report:
    """Run a checkpoint, write what it found; raise on a critical finding, else return the warnings."""
    from validation.gx_duckdb import run_suites

    results = run_suites(name, suites, create_views, as_of=as_of, docs=out / "data_docs")
    write_json(out / "data_quality.json", {"suites": [asdict(result) for result in results]})
    critical = [finding for result in results for finding in result.findings if finding.severity == "critical"]
    if critical:
        more = f" (and {len(critical) - 1} more)" if len(critical) > 1 else ""
        raise ValidationFailed(f"{critical[0]}{more}. Every finding: {out / 'data_docs/index.html'}")
    return Report(suites=tuple(_suite_report(result) for result in results))


def _suite_report(result: SuiteResult) -> SuiteReport:
    warnings = tuple(str(finding) for finding in result.findings if finding.severity == "warning")
    return SuiteReport(suite=result.suite, success=not warnings, warnings=warnings)
