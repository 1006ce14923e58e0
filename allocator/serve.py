"""Runs the service: `python -m allocator.serve --state-dir DIR --model-root DIR [--host H] [--port P]`.

Tokens come from the environment (ALM_MTA_TOKEN_PUSH, _ALLOCATE, _ADMIN), never from the command line, for all to read.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from allocator.loopback import is_loopback
from allocator.service import create_app
from allocator.settings import AllocatorSettings
from features.errors import AllocatorError, AlmMtaError, ConfigError
from features.files import atomic_file

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_S = 10
BACKLOG = 2048


def serve(
    settings: AllocatorSettings, host: str = "127.0.0.1", port: int = 8080, *, port_file: Path | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the open requests.

    `port` 0 takes a free one; `port_file` gets the bound port as text, atomically, once requests are answered.
    Raises ConfigError when anybody but this machine could call without a token, or the address cannot be bound;
    AllocatorError when the state cannot be opened, for example because another allocator runs on it.
    """
    if not settings.tokens and not is_loopback(host):
        raise ConfigError(
            f"host {host} is reachable from other machines, but no token is set: "
            "set ALM_MTA_TOKEN_PUSH, ALM_MTA_TOKEN_ALLOCATE and ALM_MTA_TOKEN_ADMIN, or use 127.0.0.1"
        )
    with _listener(host, port) as listener:
        auth = "on" if settings.tokens else "off"
        logger.info("allocator on http://%s:%d, auth %s", host, listener.getsockname()[1], auth)
        _run(create_app(settings), listener, port_file)


@contextmanager
def _stop_signals_end_well() -> Iterator[None]:
    """uvicorn stops gracefully and then raises the signal once more: that must not look like a crash."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.signal(kind, lambda *_: sys.exit(0)) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


class _Server(uvicorn.Server):
    """Tells its port to whoever waits for the file, as soon as it answers."""

    port_file: Path | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self.port_file is not None and sockets:
            with atomic_file(self.port_file) as temporary:
                temporary.write_text(f"{sockets[0].getsockname()[1]}\n")


def _run(app: FastAPI, listener: socket.socket, port_file: Path | None) -> None:
    config = uvicorn.Config(
        app, log_config=None, timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S, server_header=False, access_log=False
    )
    server = _Server(config)
    server.port_file = port_file
    with _stop_signals_end_well():
        try:
            server.run(sockets=[listener])
        except SystemExit as ended:
            if ended.code == 0:  # the signal, raised again after the graceful stop
                return
    if not server.started:
        reason = getattr(app.state, "startup_error", "its log says why")
        raise AllocatorError(f"the allocator could not start: {reason}")


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error}") from error


def _stop_when_parent_ends() -> None:
    """Our standard input is a pipe of our parent's: it ends when the parent does, even by SIGKILL."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 after a graceful stop, 2 for a configuration or a state that cannot be served."""
    parser = argparse.ArgumentParser(prog="python -m allocator.serve", description="Run the incentive allocator.")
    parser.add_argument("--state-dir", type=Path, required=True, help="folder of the ledger and the pulled models")
    parser.add_argument("--model-root", type=Path, required=True, help="only bundles under this folder are loaded")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port, 0 = a free one (default %(default)s)")
    parser.add_argument("--port-file", type=Path, help="file that gets the bound port")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input ends")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if options.stop_with_stdin:
        _stop_when_parent_ends()
    try:
        settings = AllocatorSettings.from_environment(state_dir=options.state_dir, model_root=options.model_root)
        serve(settings, options.host, options.port, port_file=options.port_file)
    except AlmMtaError as error:
        logger.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
