"""Where logs lie: a folder of this machine, or of an object store by its address (s3://bucket/logs, gs://...).

Object stores are read through fsspec, with column and row-group pruning, and never copied. Credentials, region and
endpoint come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, ...), never from an
address.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import duckdb

from features.errors import ConfigError
from features.files import sha256_file, sha256_json

PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
"""Kind of address -> the package that reads it."""
STAMPS = ("ETag", "md5Hash", "generation")
"""What stores call the version of a file's bytes, the first of them that there is: generations tell equal copies apart,
and what Google calls etag does too."""


def location(where: Path | str) -> Path:
    """`where` as a path; an object store's address as an object with pathlib's interface.

    Raises ConfigError for an address of an unknown kind, without its package, or with credentials in it.
    """
    address = str(where)
    if is_remote(where) or "://" not in address:
        return cast(Path, where) if is_remote(where) else Path(where)
    parts = urlsplit(address)
    if "@" in parts.netloc:
        raise ConfigError(
            f"logs at {parts.scheme}://...@{parts.netloc.rpartition('@')[2]}{parts.path}: credentials do not belong "
            "into an address, which is logged and stored; set them in the environment"
        )
    if parts.scheme not in PACKAGES:
        raise ConfigError(f"logs at {address}: no such kind of storage; there are folders, {', '.join(PACKAGES)}")
    package = PACKAGES[parts.scheme]
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"logs at {address}: install {package}, the package that reads {parts.scheme}://")
    from upath import UPath

    return cast(Path, UPath(address.rstrip("/"), use_listings_cache=False))


def is_remote(where: Any) -> bool:
    """Whether `where` is what `location` makes of an object store's address."""
    return hasattr(where, "fs")


def reach(where: Path) -> None:
    """Raise ConfigError where an object store's folder cannot be listed; folders here speak for themselves."""
    if not is_remote(where):
        return
    remote = cast(Any, where)
    try:
        remote.fs.ls(remote.path)
    except Exception as error:  # every store has errors of its own
        raise ConfigError(
            f"logs at {where}: cannot be listed ({type(error).__name__}: {' '.join(str(error).split())[:200]}); "
            "check the address, and credentials and endpoint in the environment"
        ) from error


def attach(connection: duckdb.DuckDBPyConnection, where: Path) -> None:
    """Let the connection, and others of its database, read files at `where`, by the ranges that it asks for."""
    if is_remote(where):
        store = cast(Any, where).fs
        # A cache that reads ahead would fetch the columns that are left out; stores have no common option for it.
        store.open = partial(type(store).open, store, cache_type="none")
        connection.register_filesystem(store)


def digest(file: Path) -> str:
    """What changes when the file does: its SHA-256 here; in an object store, of what the store says of its bytes."""
    if not is_remote(file):
        return sha256_file(file)
    remote = cast(Any, file)
    known = remote.fs.info(remote.path)
    stamp = next(({name: str(known[name])} for name in STAMPS if known.get(name)), {})
    return sha256_json({**stamp, "size": known["size"]})
