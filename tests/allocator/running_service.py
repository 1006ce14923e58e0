"""A real allocator on a loopback port, and what tests say to it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from tiny_bundle import write_bundle

from allocator.service import create_app
from allocator.settings import AllocatorSettings

TOKENS = {scope: f"{scope}-token-of-this-test" for scope in ("push", "allocate", "admin")}

Start = Callable[..., "Service"]

TLS = ssl.create_default_context()
"""httpx would read all certificates again for each request, although none here is encrypted."""


class Service:
    """A running allocator and what a caller knows about it."""

    def __init__(self, url: str, root: Path) -> None:
        self.url = url
        self.root = root

    def call(self, method: str, path: str, body: Any = None, *, scope: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKENS[scope]}"} if scope else {}
        return httpx.request(method, self.url + path, json=body, headers=headers, timeout=30, verify=TLS)

    def push_body(self, version: str = "1", **bundle: Any) -> dict[str, Any]:
        """Write a bundle under the model root and describe it."""
        folder = self.root / f"bundle-{version}"
        return {
            "name": "tiny",
            "version": version,
            "uri": folder.as_uri(),
            "approval_id": f"gate-{version}",
            **write_bundle(folder, **bundle),
        }

    def push(self, version: str = "1", **bundle: Any) -> dict[str, Any]:
        body = self.push_body(version, **bundle)
        answer = self.call("POST", "/v1/models", body, scope="push")
        assert answer.status_code == 201, answer.text
        return body


class _Server(uvicorn.Server):
    """Looks at `should_exit` more often than every 0.1 s."""

    async def main_loop(self) -> None:
        while not self.should_exit:
            await asyncio.sleep(0.01)


@contextmanager
def running(settings: AllocatorSettings) -> Iterator[str]:
    """A real uvicorn on a loopback port of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(create_app(settings), log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        assert server.started
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
