"""Names on a command line, chosen from what there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from features.errors import ConfigError

Named = TypeVar("Named")


def chosen(option: str, asked: str, known: Mapping[str, Named]) -> dict[str, Named]:
    """Those of `known` that the comma-separated `asked` names, all if it names none. Raises ConfigError."""
    names = [name.strip() for name in asked.split(",") if name.strip()] or list(known)
    for name in names:
        if name not in known:
            raise ConfigError(f"{option} {name}: there are {', '.join(known)}")
    return {name: known[name] for name in names}
