"""What the fixture `prepared` hands to tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A small simulated world, taken through journeys and retrieval."""

    logs: Path
    journeys: Path
    data: Path
