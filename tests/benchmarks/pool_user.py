"""A program whose pool's worker says who it is, in the file named on the command line, and stays."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from benchmarks.pool import run_pool


def stay(told: Path) -> None:
    told.with_suffix(".half").write_text(str(os.getpid()))
    told.with_suffix(".half").rename(told)
    time.sleep(60)


if __name__ == "__main__":
    told = Path(sys.argv[1])
    run_pool(stay, [told], jobs=1, log=told.with_suffix(".log"), tell=lambda: None)
