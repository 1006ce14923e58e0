"""Great Expectations checkpoints over DuckDB views: nothing is loaded into pandas, nothing leaves the machine.

Traps closed here, each of which would pass or break silently:

- GX opens a new connection per query and so loses its temporary tables on DuckDB, unless the dialect is in a private
  list of those that keep one (hence the pinned GX version);
- a file asset validates its last file only: here a view spans all files and is validated as one table;
- the engine that GX opens would take most of the machine's memory: it gets MEMORY_LIMIT, and spills beyond it;
- an expectation that raised has no observation, and its severity may be low: here it is always critical.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, cast

import duckdb
import great_expectations as gx
import sqlalchemy
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.execution_engine import sqlalchemy_execution_engine as gx_sql
from great_expectations.expectations.expectation import Expectation

from validation.data_docs import write_data_docs

logger = logging.getLogger(__name__)

MEMORY_LIMIT = "512MB"
"""Of DuckDB, beside the 300 MB that Great Expectations takes."""

Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Expectations about one view; `name` is that of the view, too."""

    name: str
    expectations: tuple[Expectation, ...]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One expectation that did not hold."""

    suite: str
    column: str
    severity: Severity
    meaning: str
    observed: str
    example: str | None

    def __str__(self) -> str:
        example = f", for example {self.example}" if self.example is not None else ""
        return f"{self.suite}.{self.column}: {self.meaning}; observed {self.observed}{example}"


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """What a suite found, most severe first, among `checks` expectations."""

    suite: str
    checks: int
    findings: tuple[Finding, ...]


def describe(meaning: str, severity: Severity) -> str:
    """An expectation's description: GX's pages show no severity of their own, so it stands behind the meaning."""
    return f"{meaning} ({severity})"


class _Dialect(str, Enum):  # noqa: UP042 -- GX's own members are str enums; its comparison relies on it
    DUCKDB = "duckdb"


def _keep_connections() -> None:
    dialects: tuple[Any, ...] = gx_sql._PERSISTED_CONNECTION_DIALECTS
    if _Dialect.DUCKDB not in dialects:
        gx_sql._PERSISTED_CONNECTION_DIALECTS = (*dialects, _Dialect.DUCKDB)


def run_suites(
    name: str,
    suites: Sequence[Suite],
    create_views: Callable[[duckdb.DuckDBPyConnection], None],
    *,
    as_of: datetime,
    docs: Path,
) -> tuple[SuiteResult, ...]:
    """Run one checkpoint `name` over `suites` and write its Data Docs into the folder `docs`.

    `create_views` makes a view or table per suite on the connection it gets. `as_of` stands in the docs as the run's
    time (the data's, not the clock's: the same data gives the same bytes).
    """
    started = perf_counter()
    _keep_connections()
    with tempfile.TemporaryDirectory(prefix="alm-mta-quality-") as scratch:
        database = Path(scratch) / "views.duckdb"
        config: dict[str, Any] = {
            "memory_limit": MEMORY_LIMIT, "temp_directory": str(Path(scratch) / "spill"),
            "preserve_insertion_order": "false",
        }  # fmt: skip
        engine = sqlalchemy.create_engine(f"duckdb:///{database}", connect_args={"config": config})
        # While it is open, GX's own connections share its database, and with it the way to an object store.
        with closing(engine.raw_connection()) as connection:
            create_views(cast(duckdb.DuckDBPyConnection, connection.driver_connection))
            results = _run_checkpoint(name, suites, database, config, as_of, Path(scratch) / "site")
        engine.dispose()
        write_data_docs(Path(scratch) / "site", docs, as_of)
    logger.info(
        "%s: %d checks in %d suites, %d findings, %.1f s",
        name,
        sum(result.checks for result in results),
        len(results),
        sum(len(result.findings) for result in results),
        perf_counter() - started,
    )
    return results


def _run_checkpoint(
    name: str, suites: Sequence[Suite], database: Path, config: dict[str, Any], as_of: datetime, site: Path
) -> tuple[SuiteResult, ...]:
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    context.delete_data_docs_site("local_site")  # GX's own, in a temporary folder that it leaves behind
    context.add_data_docs_site(site_name=name, site_config=_site(site))
    source = context.data_sources.add_sql(
        name,
        connection_string=f"duckdb:///{database}",
        kwargs={"connect_args": {"config": config}},  # type: ignore[call-arg]  # GX: of create_engine
    )
    definitions = []
    for suite in suites:
        table = source.add_table_asset(suite.name, table_name=suite.name)
        expectations = gx.ExpectationSuite(name=suite.name, expectations=list(suite.expectations))
        definition = gx.ValidationDefinition(
            name=suite.name,
            data=table.add_batch_definition_whole_table("all rows"),
            suite=context.suites.add(expectations),
        )
        definitions.append(context.validation_definitions.add(definition))
    checkpoint = context.checkpoints.add(gx.Checkpoint(name=name, validation_definitions=definitions))
    try:
        run = checkpoint.run(run_id=RunIdentifier(run_name=name, run_time=as_of.replace(tzinfo=UTC)))
        context.build_data_docs()
    finally:
        source.get_engine().dispose()
    by_suite = {result.suite_name: result for result in run.run_results.values()}
    return tuple(_read_result(suite.name, by_suite[suite.name].results) for suite in suites)


def _site(folder: Path) -> Any:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
    }


def _read_result(suite: str, results: Sequence[ExpectationValidationResult]) -> SuiteResult:
    findings = [_finding(suite, result) for result in results if not result.success]
    order = {"critical": 0, "warning": 1, "info": 2}
    findings.sort(key=lambda finding: (order[finding.severity], finding.column, finding.meaning))
    return SuiteResult(suite=suite, checks=len(results), findings=tuple(findings))


def _finding(suite: str, result: ExpectationValidationResult) -> Finding:
    config = result.expectation_config
    assert config is not None  # a checkpoint's results always carry their expectation
    kwargs, observation = config.kwargs, result.result or {}
    column = kwargs.get("column") or ", ".join(kwargs.get("column_list", ())) or "*"
    severity: Severity = config.severity.value
    if _raised(result):
        severity, observation = "critical", {"observed_value": _raised(result)}
    examples = [value for value in observation.get("partial_unexpected_list") or [] if value is not None]
    return Finding(
        suite=suite,
        column=column,
        severity=severity,
        meaning=str(config.description or config.type).removesuffix(f" ({config.severity.value})"),
        observed=_observed(observation),
        example=_plain(examples[0]) if examples else None,
    )


def _raised(result: ExpectationValidationResult) -> str | None:
    info = result.exception_info or {}
    details = [info] if "raised_exception" in info else list(info.values())
    messages = [str(detail["exception_message"]) for detail in details if detail.get("raised_exception")]
    return f"an error: {messages[0]}" if messages else None


def _observed(observation: dict[str, Any]) -> str:
    if "unexpected_count" in observation:
        return f"{observation['unexpected_count']:,} of {observation['element_count']:,} rows"
    return _plain(observation.get("observed_value"))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
