"""Files that are whole or absent, under one name or two."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from features.files import link


def test_files_are_copied_where_links_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("cross-device link")

    (tmp_path / "a").write_text("text")
    monkeypatch.setattr(os, "link", refuse)
    link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "text"


def test_a_link_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").samefile(tmp_path / "b")
