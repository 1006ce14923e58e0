"""Where a user falls in [0, 1), the same on every day and machine: 32 bits of MD5(salt + decimal user_id), over 2³²."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

SPLIT_SALT = "alm-mta split 1:"
SHARES = 2**32


def shares(users: Iterable[int]) -> NDArray[np.int64]:
    """Every user's integer in [0, 2³²). [U]."""
    salt = SPLIT_SALT.encode()
    digests = [hashlib.md5(b"%s%d" % (salt, user), usedforsecurity=False).digest() for user in users]
    return np.frombuffer(b"".join(digests), ">u4")[::4].astype(np.int64)
