"""The project's files agree: pins with ranges, packages with folders, the image's context with the packages."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAX_BYTES = 1 << 20
DOCUMENTS = {".md", ".txt", ".rst"}
# A path of one machine, or the host of a package index, would bind the project to where it was written.
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:work|root|opt/(?:wheels|pypi)|home/(?!alm\b)\w+)(?=[/\"'\s:]|$)")
INDEX_HOST = re.compile(r"https?://[\w.-]*(?:pypi|pythonhosted|pytorch|npmjs|debian|conda)\w*\.(?:org|com|net)")


def pins() -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines if line)}


def direct_dependencies() -> list[Requirement]:
    project = PROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group]


def project_files() -> list[Path]:
    """The files git tracks or would track, so that a forgotten one is found before it is committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("requirement", direct_dependencies(), ids=lambda r: r.name)
def test_every_direct_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    version = pins().get(canonicalize_name(requirement.name))
    assert version, f"{requirement.name} has no pin in constraints.txt"
    assert requirement.specifier.contains(version, prereleases=True), (
        f"constraints.txt pins {requirement.name}=={version}, pyproject.toml asks for {requirement}"
    )


def test_torch_pin_names_no_build() -> None:
    """A local version such as +cpu could not be replaced by a GPU build, and only some indexes have it."""
    assert pins()["torch"] == "2.13.0"


def test_package_list_is_every_package_folder() -> None:
    tops = {name.split(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    others = {"tests", "k8s", "build", "work"}
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for init in ROOT.glob("[a-z]*/**/__init__.py")
        if init.relative_to(ROOT).parts[0] not in others
    }
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])
    assert {name.split(".")[0] for name in found} == tops


def test_image_context_has_every_package_and_what_the_build_reads() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    tops = {name.split(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    assert tops | {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"} == allowed


def test_no_file_is_larger_than_a_mebibyte() -> None:
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in project_files()}
    assert {name: size for name, size in sizes.items() if size > MAX_BYTES} == {}


def test_no_file_names_a_machine_or_a_package_index() -> None:
    found = []
    for path in project_files():
        if path == Path(__file__) or "vendor" in path.parts:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        patterns = [MACHINE_PATH] if path.suffix in DOCUMENTS else [MACHINE_PATH, INDEX_HOST]
        found += [f"{path.relative_to(ROOT)}: {hit.group()}" for pattern in patterns for hit in pattern.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        ("path = '/root/thing'", True),
        ("see /work/logs", True),
        ("mirror https://pypi.org/simple", True),
        ("work/logit/logs", False),
        ("/opt/alm-mta and target=/root-less", False),
    ],
)
def test_the_forbidden_patterns_find_what_they_should(text: str, forbidden: bool) -> None:
    assert bool(MACHINE_PATH.search(text) or INDEX_HOST.search(text)) == forbidden
