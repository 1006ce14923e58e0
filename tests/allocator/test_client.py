from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from running_service import TOKENS, Service
from tiny_bundle import EFFECT

from allocator import client
from features.errors import AllocatorError, BudgetExceeded, ConfigError, PushRefused

ITEM = {"item_id": 102, "cost": 2}


def test_push_budget_and_allocate(service: Service) -> None:
    body = service.push_body("1")
    pushed = client.push(service.url, token=TOKENS["push"], **body)
    assert (pushed["version"], pushed["state"]) == ("1", "active")
    client.wait_ready(service.url, timeout_s=5)
    assert client.push(service.url, token=TOKENS["push"], **body) == pushed
    assert client.current_model(service.url, token=TOKENS["allocate"]) == pushed
    budget = client.set_budget(service.url, token=TOKENS["admin"], name="b", total_units=10)
    assert budget["remaining_units"] == 10
    users = [{"user_id": u, "options": [ITEM]} for u in range(20)]
    plan = client.allocate(service.url, token=TOKENS["allocate"], request_id="r", budget="b", users=users)
    assert (plan["spent"], plan["remaining"]) == (10, 0)
    client.push(service.url, token=TOKENS["push"], **service.push_body("2", effect=EFFECT * 2))
    assert client.roll_back(service.url, token=TOKENS["admin"])["version"] == "1"


def test_refusals_carry_the_servers_reason(service: Service) -> None:
    body = service.push_body("1")
    with pytest.raises(PushRefused, match=r"'tiny' version '1': the bundle at .* has SHA-256 .*, the push names 0000"):
        client.push(service.url, token=TOKENS["push"], **{**body, "sha256": "0" * 64})
    with pytest.raises(PushRefused, match="needs a token of scope push, yours has scope admin"):
        client.push(service.url, token=TOKENS["admin"], **body)
    with pytest.raises(AllocatorError, match=r"refused PUT /v1/budgets/b%20b: .*should match pattern"):
        client.set_budget(service.url, token=TOKENS["admin"], name="b b", total_units=1)


def test_not_ready_says_why(service: Service) -> None:
    with pytest.raises(AllocatorError, match=r"was not ok within 0\.2 s: no model was pushed yet"):
        client.wait_ready(service.url, timeout_s=0.2)
    client.wait_alive(service.url, timeout_s=5)


def test_no_server_is_said_without_the_token(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    caplog.set_level(logging.DEBUG)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(
        AllocatorError, match=r"GET /v1/models/current failed: no connection \(ConnectError\)"
    ) as failure:
        client.current_model(f"http://127.0.0.1:{port}", token=TOKENS["push"])
    with pytest.raises(AllocatorError, match="ConnectError"):
        client.wait_ready(f"http://127.0.0.1:{port}", timeout_s=0.05)
    assert TOKENS["push"] not in str(failure.value) + caplog.text


def test_an_unusable_token_is_not_shown() -> None:
    with pytest.raises(ConfigError, match="printable ASCII") as refusal:
        client.current_model("http://127.0.0.1:1", token="secret with\nline breaks")
    assert "secret" not in str(refusal.value)


@contextmanager
def scripted(*answers: tuple[int, str]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these (status, body) in turn and records what it was asked."""
    asked: list[str] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, body = left.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_server_errors_are_retried_and_refusals_are_not() -> None:
    with scripted((503, "busy"), (500, ""), (200, '{"version": "7"}')) as (url, asked):
        assert client.current_model(url, token=None) == {"version": "7"}
        assert len(asked) == 3
    with scripted((409, '{"error": {"code": "budget_exceeded", "message": "3 units left"}}')) as (url, asked):
        with pytest.raises(BudgetExceeded, match="3 units left"):
            client.current_model(url, token=None)
        assert len(asked) == 1


def test_a_server_that_stays_broken_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    with scripted((500, ""), (503, '{"error": {"code": "no_model", "message": "nothing pushed"}}')) as (url, asked):
        with pytest.raises(AllocatorError, match="nothing pushed"):
            client.current_model(url, token=None)
        assert len(asked) == 2


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_the_timeout_holds_for_a_server_that_never_answers() -> None:
    with silent() as url:
        started = time.monotonic()
        with pytest.raises(AllocatorError, match="did not answer in time"):
            client.current_model(url, token=None, timeout_s=0.3)
        with pytest.raises(AllocatorError, match=r"/readyz was not ok within 0\.3 s: ReadTimeout"):
            client.wait_ready(url, timeout_s=0.3)
        assert 0.6 <= time.monotonic() - started < 5


def test_the_timeout_holds_for_all_tries_together() -> None:
    """The waits are about 0.2, 0.4, 0.8, … s: with 0.5 s there is no time for all five tries."""
    with scripted(*[(503, "busy")] * 5) as (url, asked):
        started = time.monotonic()
        with pytest.raises(AllocatorError, match="HTTP 503"):
            client.current_model(url, token=None, timeout_s=0.5)
        assert time.monotonic() - started < 0.5 + 0.5
        assert 1 <= len(asked) <= 3


def test_loopback_calls_go_past_the_proxy_and_others_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted((200, '{"version": "proxied"}')) as (proxy, through_proxy):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        with scripted((200, "{}"), (200, '{"version": "7"}')) as (url, asked):
            client.wait_alive(url, timeout_s=5)
            assert client.current_model(url, token=None) == {"version": "7"}
            assert len(asked) == 2
        assert through_proxy == []
        assert client.current_model("http://allocator.invalid", token=None) == {"version": "proxied"}
        assert through_proxy == ["http://allocator.invalid/v1/models/current"]


def test_config_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"allocator\.url is 'localhost:80'"):
        client.AllocatorConfig(url="localhost:80")
    with pytest.raises(ConfigError, match=r"allocator\.budget_units is -1"):
        client.AllocatorConfig(budget_units=-1)
    with pytest.raises(ConfigError, match=r"allocator\.timeout_s is 0"):
        client.AllocatorConfig(timeout_s=0)
