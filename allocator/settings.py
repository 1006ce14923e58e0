"""What the service is told when it starts: where its state lies, which models it may read, who may call it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from features.errors import ConfigError

SCOPES = ("push", "allocate", "admin")
"""push: new models; allocate: spending; admin: budgets and rollback. Any of the three may read."""

MIN_TOKEN_LENGTH = 16


def token_variable(scope: str) -> str:
    """Name of the environment variable that holds the token of `scope`."""
    return f"ALM_MTA_TOKEN_{scope.upper()}"


def token_from_environment(scope: str, environment: Mapping[str, str] | None = None) -> str | None:
    """The token of `scope`, or None when its variable is not set. Raises ConfigError when it is unusable."""
    variable = token_variable(scope)
    token = (os.environ if environment is None else environment).get(variable)
    return None if token is None else checked_token(token.strip(), variable)


def checked_token(token: str, source: str) -> str:
    """`token`, or ConfigError (which never shows it) when it is short or not printable ASCII without blanks."""
    if len(token) < MIN_TOKEN_LENGTH:
        raise ConfigError(f"{source}: the token has {len(token)} characters, use at least {MIN_TOKEN_LENGTH}")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError(f"{source}: the token must be printable ASCII without blanks")
    return token


@dataclass(frozen=True, kw_only=True)
class AllocatorSettings:
    """Settings of one allocator process. A process owns its `state_dir` alone."""

    state_dir: Path
    """Folder of the ledger (sqlite) and of the pulled models; made when absent."""
    model_root: Path
    """Only bundles under this folder are ever loaded."""
    push_token: str | None = field(default=None, repr=False)
    """Bearer token of scope push; None closes the scope, or, when all three are None, turns auth off."""
    allocate_token: str | None = field(default=None, repr=False)
    """Bearer token of scope allocate."""
    admin_token: str | None = field(default=None, repr=False)
    """Bearer token of scope admin."""
    max_body_bytes: int = 32 * 2**20
    """Largest request body."""
    max_bundle_bytes: int = 8 * 2**30
    """Largest model bundle."""

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_bundle_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"allocator.{name} is {getattr(self, name)}, use at least 1")
        for scope, token in self.tokens.items():
            checked_token(token, f"allocator.{scope}_token")
        if len(set(self.tokens.values())) < len(self.tokens):
            raise ConfigError("allocator: two scopes share one token, give each its own")

    @property
    def tokens(self) -> dict[str, str]:
        """Scope -> token, of the scopes that have one; empty = auth off."""
        given = {"push": self.push_token, "allocate": self.allocate_token, "admin": self.admin_token}
        return {scope: token for scope, token in given.items() if token is not None}

    @classmethod
    def from_environment(cls, *, state_dir: Path, model_root: Path) -> AllocatorSettings:
        """Settings with the tokens of ALM_MTA_TOKEN_PUSH, _ALLOCATE and _ADMIN."""
        tokens = {f"{scope}_token": token_from_environment(scope) for scope in SCOPES}
        return cls(state_dir=state_dir, model_root=model_root, **tokens)  # type: ignore[arg-type]
