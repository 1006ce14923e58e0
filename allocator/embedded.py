"""An allocator for the length of one run: a process on loopback, with tokens made for it alone."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from allocator.client import wait_alive
from allocator.settings import SCOPES, token_variable
from features.errors import AllocatorError

LOG_NAME = "allocator.log"
STOP_TIMEOUT_S = 15.0


@contextmanager
def embedded(state_dir: Path, model_root: Path, *, start_timeout_s: float = 60.0) -> Iterator[str]:
    """Yield the URL of an allocator process; it stops on the way out, and with this process even if that is killed.

    Inside, this process's environment holds the fresh tokens (ALM_MTA_TOKEN_*) for `token_from_environment`; the
    previous values come back. Whoever sees that environment sees them: every thread and every child process started
    meanwhile, and on most systems other processes of the same account. They are in no file, no log and no command line,
    and are worth nothing once the service has stopped. It logs to state_dir/allocator.log.
    Raises AllocatorError with the end of that log when the service does not start.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    tokens = {token_variable(scope): secrets.token_urlsafe(32) for scope in SCOPES}
    with _environment(tokens), tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        process = _start(state_dir, model_root, port_file)
        try:
            url = f"http://127.0.0.1:{_port(process, port_file, state_dir, start_timeout_s)}"
            wait_alive(url, start_timeout_s)
            yield url
        finally:
            _stop(process)


def _start(state_dir: Path, model_root: Path, port_file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "allocator.serve", "--stop-with-stdin", "--port", "0"]
    command += ["--port-file", str(port_file), "--state-dir", str(state_dir), "--model-root", str(model_root)]
    with (state_dir / LOG_NAME).open("ab") as log:
        # a session of its own: Ctrl-C reaches this process only, which then stops the service in order
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)


def _port(process: subprocess.Popen[bytes], port_file: Path, state_dir: Path, timeout_s: float) -> int:
    deadline = time.monotonic() + timeout_s
    while not port_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            log = state_dir / LOG_NAME
            ended = "did not start in time" if process.returncode is None else f"ended with {process.returncode}"
            last_lines = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise AllocatorError(f"the allocator {ended}; the end of {log}:\n{last_lines}")
        time.sleep(0.02)
    return int(port_file.read_text())


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdin is not None:
            process.stdin.close()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
