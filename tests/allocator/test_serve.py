from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tiny_bundle import write_bundle

from allocator import client, service
from allocator.embedded import embedded
from allocator.loopback import is_loopback
from allocator.serve import main, serve
from allocator.settings import AllocatorSettings, token_from_environment
from features.errors import AllocatorError, ConfigError

SERVE = [sys.executable, "-m", "allocator.serve", "--port", "0"]


def settings(folder: Path) -> AllocatorSettings:
    return AllocatorSettings(state_dir=folder / "state", model_root=folder / "models")


def is_running(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def assert_ends(url: str) -> None:
    deadline = time.monotonic() + 20
    while is_running(url):
        assert time.monotonic() < deadline, "the service still answers"
        time.sleep(0.05)


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`python -m allocator.serve` on a free port; (process, url)."""
    port_file = folder / "port"
    process = subprocess.Popen(
        [*SERVE, "--port-file", str(port_file), "--state-dir", str(folder / "state"), "--model-root", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not port_file.exists():
            assert process.poll() is None
            time.sleep(0.02)
        url = f"http://127.0.0.1:{port_file.read_text().strip()}"
        client.wait_alive(url, 30)
        yield process, url
    finally:
        process.kill()
        process.communicate()


def test_a_host_that_others_reach_needs_tokens(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"host 0\.0\.0\.0 is reachable .* no token is set"):
        serve(settings(tmp_path), host="0.0.0.0", port=0)
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "allocator.example")] == [False] * 4


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(url, folder) of an allocator process that is in the way; nothing changes its state."""
    folder = tmp_path_factory.mktemp("other")
    with served(folder) as (_, url):
        yield url, folder


def test_a_port_in_use_is_said(tmp_path: Path, other: tuple[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1 port \d+"):
        serve(settings(tmp_path), port=int(other[0].rsplit(":", 1)[1]))


@pytest.mark.parametrize("kind", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_is_a_graceful_stop(tmp_path: Path, kind: signal.Signals) -> None:
    with served(tmp_path) as (process, _):
        process.send_signal(kind)
        assert process.wait(20) == 0


def test_the_state_has_one_owner(
    other: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A second process, this one, waits for the first to leave the state, and gives up with exit code 2."""
    monkeypatch.setattr(service, "STATE_LOCK_TIMEOUT_S", 0.3)
    url, folder = other
    assert main(["--state-dir", str(folder / "state"), "--model-root", ".", "--port", "0"]) == 2
    assert "could not start: another allocator runs on" in caplog.text
    assert is_running(url)


@pytest.mark.slow
def test_a_second_process_gives_up_in_good_time(other: tuple[str, Path]) -> None:
    url, folder = other
    second = [*SERVE, "--state-dir", str(folder / "state"), "--model-root", "."]
    ended = subprocess.run(second, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "could not start: another allocator runs on" in ended.stderr
    assert is_running(url)


@pytest.mark.parametrize("token", ["", "short"])
def test_an_unusable_token_never_means_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("ALM_MTA_TOKEN_PUSH", token)
    assert main(["--state-dir", str(tmp_path), "--model-root", str(tmp_path), "--port", "0"]) == 2


def test_embedded_serves_with_tokens_of_its_own_and_stops(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    said = write_bundle(tmp_path / "models" / "bundle")
    with embedded(tmp_path / "state", tmp_path / "models") as url:
        tokens = {scope: token_from_environment(scope) for scope in ("push", "allocate", "admin")}
        assert None not in tokens.values()
        client.push(url, token=tokens["push"], name="m", version="1", uri="bundle", approval_id="a", **said)
        client.wait_ready(url, 10)
        assert httpx.get(f"{url}/v1/models/current").status_code == 401
        arguments = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert "allocator.serve --stop-with-stdin" in arguments
        assert not any(str(token) in arguments for token in tokens.values())
    assert not is_running(url)
    assert token_from_environment("push") is None
    log = (tmp_path / "state" / "allocator.log").read_text()
    assert "model 'm' version '1'" in log
    assert not any(str(token) in log for token in tokens.values())


@pytest.mark.slow
def test_embedded_stops_on_keyboard_interrupt(tmp_path: Path) -> None:
    urls = []

    def interrupted() -> None:
        with embedded(tmp_path / "state", tmp_path) as url:
            urls.append(url)
            assert is_running(url)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not is_running(urls[0])


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        signal.SIGKILL,
    ],
)
def test_embedded_ends_with_its_parent_however_that_ends(tmp_path: Path, kind: signal.Signals) -> None:
    script = (
        "import pathlib, signal, sys, time\nfrom allocator.embedded import embedded\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with embedded(folder / 'state', folder) as url:\n    print(url, flush=True)\n    time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout is not None
    url = parent.stdout.readline().strip()
    assert is_running(url)
    os.kill(parent.pid, kind)
    parent.communicate(timeout=30)
    assert_ends(url)


def test_embedded_says_why_it_did_not_start(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ledger.sqlite").write_text("this is not a database, and it is long enough to tell")
    with (
        pytest.raises(AllocatorError, match=r"(?s)ended with 2; .*file is not a database"),
        embedded(tmp_path / "state", tmp_path),
    ):
        pass
