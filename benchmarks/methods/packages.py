"""Names of the packages that peers come from. They are imported inside the methods: some take seconds to import."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package(name: str) -> str:
    """Distribution and installed version, as a method's `source`."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} (not installed: pip install 'alm-mta[bench]')"
