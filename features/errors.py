"""Every error this project raises on purpose.

AlmMtaError
├── ConfigError          the command or its configuration cannot mean anything; exit code 2
├── BadLogsError         the logs break the data contract; nothing was spent
├── ValidationFailed     a data-quality suite failed with severity critical
├── WorkdirBusy          another run is alive in this workdir
├── BundleError          a model bundle is missing, altered or of another format
├── RegistryError        the model registry does not hold what was asked for
├── TrainingFailed       training ended without a usable model
└── AllocatorError       the allocator refused or could not be reached
    ├── BudgetExceeded   the spend would pass the budget's total
    └── PushRefused      the allocator did not accept the model
"""

from __future__ import annotations


class AlmMtaError(Exception):
    """Base of all expected failures: its text names the thing, the place, the value and what to do."""


class ConfigError(AlmMtaError):
    """The command or configuration cannot mean anything."""


class BadLogsError(AlmMtaError):
    """The logs break the data contract (`features/contract.py`)."""

    def __init__(
        self,
        problem: str,
        *,
        table: str,
        column: str | None = None,
        rows: int | None = None,
        example: str | None = None,
        remedy: str = "",
    ) -> None:
        self.problem = problem
        self.table = table
        self.column = column
        self.rows = rows
        self.example = example
        where = f"table '{table}'" + (f", column '{column}'" if column else "")
        count = f" in {rows:,} row{'s' if rows != 1 else ''}" if rows is not None else ""
        shown = f"; for example {example}" if example else ""
        todo = f". {remedy}" if remedy else ""
        super().__init__(f"{where}: {problem}{count}{shown}{todo}")


class ValidationFailed(AlmMtaError):
    """A data-quality suite failed with severity critical."""


class WorkdirBusy(AlmMtaError):
    """Another run is alive in this workdir."""


class BundleError(AlmMtaError):
    """A model bundle is missing, altered or of another format."""


class RegistryError(AlmMtaError):
    """The model registry does not hold what was asked for."""


class TrainingFailed(AlmMtaError):
    """Training ended without a usable model."""


class AllocatorError(AlmMtaError):
    """The allocator refused or could not be reached."""


class BudgetExceeded(AllocatorError):
    """The spend would pass the budget's total."""


class PushRefused(AllocatorError):
    """The allocator did not accept the model."""
