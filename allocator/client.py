"""Talks to an allocator: push a model, set a budget, ask for a plan.

Pushes, budgets and plans may be repeated safely (version + hash, total and request_id are idempotent), so connection
errors and 5xx are retried; a refusal (4xx) is final and comes back as an error with the server's reason. Every
`timeout_s` is a budget for the whole call, tries and the waits between them: connecting, sending and waiting for the
answer get what is left of it, so only a server that dribbles its answer can take longer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import tenacity

from allocator.loopback import is_loopback
from allocator.settings import checked_token
from features.errors import AllocatorError, BudgetExceeded, ConfigError, PushRefused

logger = logging.getLogger(__name__)

ATTEMPTS = 5
SHORTEST_TRY_S = 0.05


@dataclass(frozen=True, kw_only=True)
class AllocatorConfig:
    """How a pipeline reaches its allocator."""

    url: str = ""
    """Base URL of a running allocator, as http://HOST:PORT; empty = start one on loopback for the run."""
    budget: str = "default"
    """First part of a name: each run makes a new budget, `<budget>-<run_id>`, and its plan spends from that alone."""
    budget_units: int = 1000
    """Total of each such budget, in integer cost units: a limit on one run's plan, not on all runs together."""
    timeout_s: float = 60.0
    """Seconds that one call may take, retries and the waits between them included."""

    def __post_init__(self) -> None:
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"allocator.url is '{self.url}', it must start with http:// or https://")
        if self.budget_units < 0:
            raise ConfigError(f"allocator.budget_units is {self.budget_units}, use 0 or more")
        if self.timeout_s <= 0:
            raise ConfigError(f"allocator.timeout_s is {self.timeout_s}, use more than 0")


class _Unavailable(Exception):
    """A try that may succeed when repeated."""


class _Refusal(Exception):
    """A final answer of the server's."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


def push(
    url: str,
    *,
    token: str | None,
    name: str,
    version: str,
    uri: str,
    sha256: str,
    feature_schema_hash: str,
    approval_id: str,
    timeout_s: float = 60.0,
) -> dict[str, Any]:
    """Make the allocator at `url` pull, prove and serve this model version.

    Returns its record; `state` is 'active' when the version serves, 'standby' or 'withdrawn' when it did before.

    Raises PushRefused with the server's reason; AllocatorError when it cannot be reached within `timeout_s`.
    """
    body = {
        "name": name,
        "version": version,
        "uri": uri,
        "sha256": sha256,
        "feature_schema_hash": feature_schema_hash,
        "approval_id": approval_id,
    }
    try:
        return _call(url, "POST", "/v1/models", token=token, body=body, timeout_s=timeout_s)
    except _Refusal as refusal:
        raise PushRefused(f"allocator {url} refused model '{name}' version '{version}': {refusal.message}") from None


def allocate(
    url: str,
    *,
    token: str | None,
    request_id: str,
    budget: str,
    users: Sequence[dict[str, Any]],
    units: int | None = None,
    dry_run: bool = False,
    timeout_s: float = 60.0,
) -> dict[str, Any]:
    """A plan for `users` (as in POST /v1/allocations), spent from `budget` unless `dry_run`.

    `request_id` makes repeats safe: the same request gets its first answer again and spends nothing more.
    Raises BudgetExceeded or AllocatorError with the server's reason.
    """
    body = {
        "request_id": request_id,
        "budget": budget,
        "users": list(users),
        "units": units,
        "dry_run": dry_run,
    }
    return _call_or_raise(url, "POST", "/v1/allocations", token=token, body=body, timeout_s=timeout_s)


def set_budget(url: str, *, token: str | None, name: str, total_units: int, timeout_s: float = 60.0) -> dict[str, Any]:
    """Make a budget or change its total. Raises AllocatorError with the server's reason."""
    path = f"/v1/budgets/{quote(name, safe='')}"
    return _call_or_raise(url, "PUT", path, token=token, body={"total_units": total_units}, timeout_s=timeout_s)


def current_model(url: str, *, token: str | None, timeout_s: float = 60.0) -> dict[str, Any]:
    """The model that serves. Raises AllocatorError when there is none."""
    return _call_or_raise(url, "GET", "/v1/models/current", token=token, body=None, timeout_s=timeout_s)


def roll_back(url: str, *, token: str | None, timeout_s: float = 60.0) -> dict[str, Any]:
    """Serve the version before the current one; tried once: it is not idempotent. Raises AllocatorError."""
    return _call_or_raise(url, "POST", "/v1/models/rollback", token=token, body=None, timeout_s=timeout_s, attempts=1)


def wait_ready(url: str, timeout_s: float = 60.0) -> None:
    """Return when a model is loaded and the ledger writable. Raises AllocatorError with reasons after `timeout_s`."""
    _wait(url, "/readyz", timeout_s)


def wait_alive(url: str, timeout_s: float = 60.0) -> None:
    """Return when the allocator answers. Raises AllocatorError after `timeout_s`."""
    _wait(url, "/healthz", timeout_s)


def _client(url: str, token: str | None) -> httpx.Client:
    """The one place that opens connections. HTTP_PROXY and its like are for other machines: a proxy cannot reach the
    loopback of this one, and must not see a token meant for it."""
    headers = {} if token is None else {"Authorization": f"Bearer {checked_token(token, 'allocator token')}"}
    return httpx.Client(base_url=url, headers=headers, trust_env=not is_loopback(httpx.URL(url).host))


def _wait(url: str, path: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    with _client(url, None) as client:
        while True:
            try:
                answer = client.get(path, timeout=min(5.0, _left(deadline)))
                if answer.status_code == 200:
                    return
                reason = "; ".join(_json(answer).get("reasons", [])) or f"HTTP {answer.status_code}"
            except httpx.TransportError as error:
                reason = type(error).__name__
            if time.monotonic() >= deadline:
                raise AllocatorError(f"allocator {url}: {path} was not ok within {timeout_s:g} s: {reason}")
            time.sleep(min(0.1, _left(deadline)))


def _left(deadline: float) -> float:
    """Seconds until `deadline`, a little when it has passed: httpx wants more than 0."""
    return max(SHORTEST_TRY_S, deadline - time.monotonic())


def _call_or_raise(url: str, method: str, path: str, **details: Any) -> dict[str, Any]:
    try:
        return _call(url, method, path, **details)
    except _Refusal as refusal:
        kind = BudgetExceeded if refusal.code == "budget_exceeded" else AllocatorError
        raise kind(f"allocator {url} refused {method} {path}: {refusal.message}") from None


def _call(
    url: str,
    method: str,
    path: str,
    *,
    token: str | None,
    body: dict[str, Any] | None,
    timeout_s: float,
    attempts: int | None = None,
) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_Unavailable),
        wait=tenacity.wait_exponential_jitter(initial=0.2, max=5.0, jitter=0.2),
        stop=tenacity.stop_after_attempt(attempts or ATTEMPTS) | tenacity.stop_before_delay(timeout_s),
        reraise=True,
    )
    with _client(url, token) as client:
        try:
            return retrying(_try, client, method, path, body, deadline)
        except _Unavailable as error:
            raise AllocatorError(f"allocator {url}: {method} {path} failed: {error}") from None


def _try(client: httpx.Client, method: str, path: str, body: dict[str, Any] | None, deadline: float) -> dict[str, Any]:
    try:
        answer = client.request(method, path, json=body, timeout=_left(deadline))
    except httpx.ReadTimeout:
        logger.warning("%s %s: no answer in time", method, path)
        raise _Unavailable("it did not answer in time; raise timeout_s, or see its log") from None
    except httpx.TransportError as error:
        logger.warning("%s %s: %s, may be retried", method, path, type(error).__name__)
        raise _Unavailable(f"no connection ({type(error).__name__}); does it run?") from None
    if answer.is_success:
        return _json(answer)
    detail = _json(answer).get("error") or {}
    code, message = str(detail.get("code", "")), str(detail.get("message", f"HTTP {answer.status_code}"))
    if answer.is_server_error:
        logger.warning("%s %s: HTTP %d, may be retried", method, path, answer.status_code)
        raise _Unavailable(message)
    raise _Refusal(code, message)


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {}
