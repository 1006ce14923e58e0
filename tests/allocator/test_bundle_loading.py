from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from tiny_bundle import CLUSTERS, EFFECT, catalogue, graph, inputs, reference, write_bundle, write_manifest

from allocator.bundle import copy_bundle, load_bundle, read_manifest
from features.errors import BundleError


def test_a_good_bundle_scores_like_its_reference(tmp_path: Path) -> None:
    said = write_bundle(tmp_path / "bundle")
    model = load_bundle(tmp_path / "bundle")
    assert model.manifest.sha256 == said["sha256"]
    assert model.manifest.feature_schema_hash == said["feature_schema_hash"]
    rows = inputs(np.random.default_rng(7), B=3, L=11)
    scores = model.score(**rows)
    for name, expected in reference(**rows).items():
        np.testing.assert_allclose(getattr(scores, name), expected, rtol=1e-4, atol=1e-6)


def test_catalogue_rows(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    found = load_bundle(tmp_path / "bundle").catalogue.rows(np.array([100, 99, 111, 112]))
    assert found.tolist() == [0, -1, 11, -1]


@pytest.mark.parametrize("name", ["score.onnx", "catalogue.safetensors", "golden.safetensors", "config.yaml"])
def test_one_changed_byte_in_any_file_is_noticed(tmp_path: Path, name: str) -> None:
    write_bundle(tmp_path / "bundle")
    content = bytearray((tmp_path / "bundle" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bundle" / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} has SHA-256 .* altered"):
        load_bundle(tmp_path / "bundle")


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "config.yaml").unlink()
    with pytest.raises(BundleError, match=r"lacks config\.yaml"):
        load_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"no readable manifest\.json"):
        load_bundle(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "format 3, this release loads 1 and 2"),
        ({"files": {"../outside": "0" * 64}}, "outside the bundle"),
        ({"files": {"/etc/passwd": "0" * 64}}, "outside the bundle"),
        ({"files": {}}, r"lists no score\.onnx, catalogue\.safetensors, golden\.safetensors"),
        ({"files": None}, "not a bundle's manifest"),
        ({"schema": {"profile": []}}, "not a bundle's manifest: KeyError 'clusters'"),
        ({"schema": {"clusters": [], "profile": [], "max_touches": 0}}, "max_touches 0, it must be"),
        ({"schema": {"clusters": [], "profile": [], "max_touches": "64"}}, "max_touches '64', it must be"),
        ({"schema": {"clusters": [], "profile": [], "feature_schema_hash": "x"}}, "two different feature_schema_hash"),
    ],
)
def test_a_manifest_that_means_nothing_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_bundle(tmp_path / "bundle")
    write_manifest(tmp_path / "bundle", **changes)
    with pytest.raises(BundleError, match=message):
        read_manifest(tmp_path / "bundle")


def test_a_graph_that_does_not_reproduce_its_golden_rows_is_refused(tmp_path: Path) -> None:
    """A cluster effect off by 1e-3 moves credits by about 1e-4: ten times the tolerance."""
    write_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "score.onnx").write_bytes(graph(5, effect=EFFECT + np.float32(1e-3)))
    write_manifest(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"does not reproduce the golden rows: .* off by up to"):
        load_bundle(tmp_path / "bundle")


def test_golden_rows_within_float32_noise_are_accepted(tmp_path: Path) -> None:
    rows = inputs(np.random.default_rng(1), B=8, L=5)
    noisy = {name: value + np.float32(1e-6) for name, value in reference(**rows).items()}
    write_bundle(tmp_path / "bundle", golden=noisy)
    load_bundle(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_id": np.full(12, 5)}, "holds an item_id twice"),
        ({"cluster_index": np.full(12, len(CLUSTERS) + 1)}, "outside 0..3"),
        ({"content": np.full((12, 2), np.nan, np.float32)}, "not finite"),
        ({"content": np.zeros((12, 3), np.float32)}, "content_BLD of width 2, the bundle's data has width 3"),
        ({"content": np.zeros((11, 2), np.float32)}, "one row an item"),
        ({"item_id": np.arange(12, dtype=np.int32)}, "needs 'item_id' of type int64"),
    ],
)
def test_a_catalogue_that_cannot_be_right_is_refused(
    tmp_path: Path, change: dict[str, np.ndarray], message: str
) -> None:
    write_bundle(tmp_path / "bundle")
    safetensors.numpy.save_file({**catalogue(), **change}, tmp_path / "bundle" / "catalogue.safetensors")
    write_manifest(tmp_path / "bundle")
    with pytest.raises(BundleError, match=message):
        load_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("name", ["score.onnx", "catalogue.safetensors", "golden.safetensors"])
def test_a_file_of_another_format_is_refused(tmp_path: Path, name: str) -> None:
    write_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / name).write_bytes(b"\x80\x04 not what it should be")
    write_manifest(tmp_path / "bundle")
    with pytest.raises(BundleError, match=name):
        load_bundle(tmp_path / "bundle")


def test_a_copy_is_whole_or_absent(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "unlisted.bin").write_bytes(b"stays behind")
    copy_bundle(tmp_path / "bundle", tmp_path / "copy", max_bytes=2**20)
    assert load_bundle(tmp_path / "copy").manifest == read_manifest(tmp_path / "bundle")
    assert not (tmp_path / "copy" / "unlisted.bin").exists()
    with pytest.raises(BundleError, match="the limit is 10"):
        copy_bundle(tmp_path / "bundle", tmp_path / "too-large", max_bytes=10)
    (tmp_path / "bundle" / "config.yaml").write_text("changed")
    with pytest.raises(BundleError, match="altered"):
        copy_bundle(tmp_path / "bundle", tmp_path / "altered", max_bytes=2**20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "copy"]
