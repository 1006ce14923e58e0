"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

FOLLOW_PARENT = "ALM_MTA_FOLLOW_PARENT"
"""Environment variable: set by a step for the programs that it starts, and theirs."""


def end_with_parent(poll_s: float = 0.5) -> None:
    """End this process soon after its parent, however that ends, where FOLLOW_PARENT asks for it."""
    if FOLLOW_PARENT in os.environ:
        spawner = multiprocessing.parent_process()  # known even if it died while this process started
        parent = spawner.pid if spawner and spawner.pid else os.getppid()
        threading.Thread(target=_watch, args=(parent, poll_s), daemon=True).start()


def _watch(parent: int, poll_s: float) -> None:
    while os.getppid() == parent:
        time.sleep(poll_s)
    os._exit(128 + signal.SIGTERM)
