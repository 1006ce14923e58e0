"""Who may call what: one bearer token a scope, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from fastapi import Request

from allocator.loopback import is_loopback
from allocator.settings import AllocatorSettings

OWN_SITE = ("none", "same-origin")
"""Sec-Fetch-Site of requests that no page of another site made."""


class Unauthorised(Exception):
    """`status` 401: no valid token; 403: a valid token of another scope, or a caller that needs one."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def requires(*scopes: str) -> Callable[[Request], str]:
    """A FastAPI dependency: the caller's scope, when it is one of `scopes`; raises Unauthorised otherwise."""

    def caller(request: Request) -> str:
        settings: AllocatorSettings = request.app.state.settings
        if not settings.tokens:
            return _loopback_caller(request)
        scope = _scope_of(request.headers.get("authorization", ""), settings.tokens)
        if scope is None:
            raise Unauthorised(401, "send 'Authorization: Bearer TOKEN' with a valid token")
        if scope not in scopes:
            raise Unauthorised(403, f"this needs a token of scope {' or '.join(scopes)}, yours has scope {scope}")
        return scope

    return caller


def _scope_of(header: str, tokens: dict[str, str]) -> str | None:
    kind, _, given = header.partition(" ")
    matches = [scope for scope, token in tokens.items() if hmac.compare_digest(given.encode(), token.encode())]
    return matches[0] if matches and kind.lower() == "bearer" else None


def _loopback_caller(request: Request) -> str:
    """Without tokens only this machine may call, and no web page that a browser on it shows.

    A page of another site could otherwise POST here, or resolve its own name to 127.0.0.1: the first sends Origin or
    Sec-Fetch-Site, the second its own Host.
    """
    client = request.client.host if request.client else ""
    if not (is_loopback(client) and is_loopback(request.url.hostname or "")):
        raise Unauthorised(403, "this allocator has no tokens, so it answers only to its own machine")
    if "origin" in request.headers or request.headers.get("sec-fetch-site", "none") not in OWN_SITE:
        raise Unauthorised(403, "this allocator has no tokens, so it answers no web page")
    return "local"
