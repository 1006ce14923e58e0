"""A program that ends with an error that this project knows, or with one that it does not."""

from __future__ import annotations

import logging
import sys

if __name__ == "__main__":
    logging.basicConfig(format="[%(levelname)s %(name)s] %(message)s", stream=sys.stdout)
    if sys.argv[1] == "untyped":
        raise RuntimeError("broke")
    logging.getLogger("__main__").error("TrainingFailed: split 'fit' has one class only")
    sys.exit(1)
