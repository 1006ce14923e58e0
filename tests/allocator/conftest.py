from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from running_service import TOKENS, Service, Start, running

from allocator.settings import AllocatorSettings


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a service on the test's folders, with tokens unless told otherwise; all are stopped at the end."""
    with ExitStack() as services:

        def started(**changes: Any) -> Service:
            tokens = {f"{scope}_token": token for scope, token in TOKENS.items()}
            folders = {"state_dir": tmp_path / "state", "model_root": tmp_path / "models"}
            settings = AllocatorSettings(**{**folders, **tokens, **changes})
            url = services.enter_context(running(settings))
            return Service(url, settings.model_root)

        yield started


@pytest.fixture
def service(start: Start) -> Service:
    return start()
