"""Real servers of the object stores on loopback, for tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

SECRET = "a-secret-that-no-log-may-show"


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """The environment that leads to an empty store."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        server.stop()


@contextmanager
def gs_server() -> Iterator[dict[str, str]]:
    """The environment that leads to an empty store."""
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    try:
        host, port = server._api._httpd.server_address
        yield {"STORAGE_EMULATOR_HOST": f"http://{host}:{port}", "NO_GCE_CHECK": "true"}
    finally:
        server.stop()
