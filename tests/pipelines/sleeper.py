"""A process that says who it is and then does nothing for a minute."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(f"{os.getpid()}\n")
    time.sleep(60)
