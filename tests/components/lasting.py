"""A program that says who it is and stays until its parent is gone."""

from __future__ import annotations

import os
import sys
import time

from features.process import end_with_parent

if __name__ == "__main__":
    end_with_parent(poll_s=0.05)
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(60)
