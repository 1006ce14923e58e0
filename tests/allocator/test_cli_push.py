from __future__ import annotations

import json
from pathlib import Path

import pytest
from running_service import TOKENS, Service
from tiny_bundle import EFFECT, write_bundle

from allocator import client
from pipelines.cli import main


def test_a_push_fails_when_its_version_does_not_serve(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Version 1 serves, 2 replaces it, a rollback returns to 1: a push of 2 changes nothing and must say so."""
    monkeypatch.setenv("ALM_MTA_TOKEN_PUSH", TOKENS["push"])

    def push(version: str) -> tuple[int, str, str]:
        where = ["--url", service.url, "--model-root", str(service.root)]
        what = ["--bundle", str(bundle(service.root, version)), "--name", "tiny", "--version", version]
        code = main(["push", *where, *what, "--approval-id", "gate"])
        said = capsys.readouterr()
        return code, json.loads(said.out)["state"], said.err

    assert push("1") == (0, "active", "")
    assert push("2") == (0, "active", "")
    assert push("1")[:2] == (1, "standby")
    client.roll_back(service.url, token=TOKENS["admin"])
    assert push("1") == (0, "active", "")
    code, state, complaint = push("2")
    assert (code, state) == (1, "withdrawn")
    assert complaint == (
        "error: model 'tiny' version '2' does not serve: it was pushed before and is withdrawn now; "
        "push it under a new version\n"
    )


def bundle(root: Path, version: str) -> Path:
    """The same bytes each time, other ones for each version."""
    if not (root / version).exists():
        write_bundle(root / version, effect=EFFECT * float(version))
    return root / version
