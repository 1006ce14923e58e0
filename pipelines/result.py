"""`result.json`: how a run ended, always with the same keys, written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from features.files import write_json

Verdict = Literal["approved", "rejected", "inconclusive", "refused", "unchanged"]


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """The champion that serves after the run; without a champion every field is None."""

    name: str | None = None
    version: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run came to."""

    verdict: Verdict
    """approved, rejected, inconclusive or unchanged by the gate; refused when the run ended before it."""
    reasons: tuple[str, ...]
    """Why, one sentence each; then why the run went no further, where it did not."""
    run_id: str | None = None
    """Folder under WORKDIR/runs; None when the run never began."""
    failed_step: str | None = None
    """Step that the run ended in, if before its end; after the gate's verdict that is push or plan."""
    model: ModelVersion = ModelVersion()
    """The candidate after an approval, else the champion that went on serving."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Flat, finite metrics of the evaluation."""
    attributions: str | None = None
    """Folder of the credits, Parquet."""
    report: str | None = None
    """The HTML report."""
    data_docs: str | None = None
    """Great Expectations' pages."""
    plan: Mapping[str, Any] | None = None
    """What the allocator plans with the new model."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds a step that ran, and `total`."""

    @property
    def approved(self) -> bool:
        return self.verdict == "approved"

    @property
    def exit_code(self) -> int:
        """0 when the champion is what these logs call for and the run came to its end, 1 otherwise."""
        return 0 if self.verdict in ("approved", "unchanged") and self.failed_step is None else 1

    def write(self, *paths: Path) -> None:
        """Write as JSON to every path, each atomically."""
        finite = {name: float(value) for name, value in self.metrics.items() if math.isfinite(value)}
        value = asdict(self) | {"approved": self.approved, "metrics": finite, "reasons": list(self.reasons)}
        for path in paths:
            write_json(path, value)
