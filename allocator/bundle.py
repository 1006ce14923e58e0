"""A model bundle: verified byte for byte, loaded without pickle, proven on golden rows before it may serve.

    manifest.json          {format, feature_schema_hash, schema, files: {path: SHA-256}}; its SHA-256 = the bundle's;
                           schema: {clusters, profile, max_touches?, …}
    score.onnx             cluster_BL, content_BLD, gap_hours_BL, mask_BL, profile_BP -> delta_BL, p_do_B, p_do_none_B
    catalogue.safetensors  item_id [I], author_id [I], cluster_index [I], content [I,D]
    golden.safetensors     inputs of score.onnx and the outputs it must give

Shapes: B journeys, L touchpoints, D content, P encoded profile, I items.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnxruntime
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from features.encoding import encoded_width
from features.errors import AllocatorError, BundleError
from features.files import atomic_dir, sha256_file

FORMATS = (1, 2)
"""Whose graph, catalogue and golden rows are the same; an allocator keeps serving what it was pushed before."""
DEFAULT_MAX_TOUCHES = 64
"""For bundles whose schema does not say how many touchpoints a journey keeps."""
REQUIRED = ("score.onnx", "catalogue.safetensors", "golden.safetensors")
INPUTS = {
    "cluster_BL": "tensor(int64)",
    "content_BLD": "tensor(float)",
    "gap_hours_BL": "tensor(float)",
    "mask_BL": "tensor(float)",
    "profile_BP": "tensor(float)",
}
OUTPUTS = ("delta_BL", "p_do_B", "p_do_none_B")
CATALOGUE = {"item_id": np.int64, "author_id": np.int64, "cluster_index": np.int64, "content": np.float32}

GOLDEN_RTOL = 1e-3
GOLDEN_ATOL = 1e-5
"""|got − golden| ≤ ATOL + RTOL·|golden|. Another CPU or onnxruntime sums float32 in another order, which moves a
probability by about 1e-7 to 1e-6; a wrong weight or swapped input moves credits (1e-3 to 1e-1) by far more."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Manifest:
    """manifest.json, checked."""

    sha256: str
    feature_schema_hash: str
    schema: dict[str, Any]
    files: dict[str, str]


@dataclass(frozen=True)
class Scores:
    """What score.onnx says: removal effects [B,L], P(Y | do T, x) [B], P(Y | do nothing, x) [B]; all float32."""

    delta_BL: NDArray[np.float32]
    p_do_B: NDArray[np.float32]
    p_do_none_B: NDArray[np.float32]


@dataclass(frozen=True)
class Catalogue:
    """The items that the model knows, item_id [I] sorted; then one row for all others, which row -1 finds."""

    item_id: NDArray[np.int64]
    cluster_index: NDArray[np.int64]
    """[I+1]; the last is the index of no cluster, the number of clusters."""
    content: NDArray[np.float32]
    """[I+1,D]; the last is zero."""

    def rows(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each item, -1 for those that are not in the catalogue."""
        row = np.searchsorted(self.item_id, items)
        row = np.minimum(row, len(self.item_id) - 1)
        return np.where(self.item_id[row] == items, row, -1)


@dataclass(frozen=True)
class LoadedModel:
    """A verified bundle in memory. `score` may be called from many threads at once."""

    manifest: Manifest
    catalogue: Catalogue
    session: onnxruntime.InferenceSession

    @property
    def profile_spec(self) -> list[dict[str, Any]]:
        profile: list[dict[str, Any]] = self.manifest.schema["profile"]
        return profile

    @property
    def max_touches(self) -> int:
        """Touchpoints that a journey of this model keeps, the latest ones."""
        return int(self.manifest.schema.get("max_touches", DEFAULT_MAX_TOUCHES))

    def score(
        self, *, cluster_BL: Array, content_BLD: Array, gap_hours_BL: Array, mask_BL: Array, profile_BP: Array
    ) -> Scores:
        """Run the graph. Raises AllocatorError when it fails or gives a number that is not finite."""
        feeds = {
            "cluster_BL": cluster_BL,
            "content_BLD": content_BLD,
            "gap_hours_BL": gap_hours_BL,
            "mask_BL": mask_BL,
            "profile_BP": profile_BP,
        }
        try:
            outputs = self.session.run(list(OUTPUTS), feeds)
        except Exception as error:  # onnxruntime's exceptions share no base but this
            raise AllocatorError(f"score.onnx of bundle {self.manifest.sha256} failed: {error}") from error
        if not all(np.isfinite(output).all() for output in outputs):
            raise AllocatorError(f"score.onnx of bundle {self.manifest.sha256} gave a number that is not finite")
        return Scores(*outputs)


def load_bundle(bundle: Path) -> LoadedModel:
    """Verify and load the bundle in this folder. Raises BundleError saying which file is wrong and how."""
    manifest = read_manifest(bundle)
    verify_files(bundle, manifest)
    model = LoadedModel(
        manifest=manifest,
        catalogue=_catalogue(bundle / "catalogue.safetensors", len(manifest.schema["clusters"])),
        session=_session(bundle / "score.onnx"),
    )
    _check_shapes(model)
    _check_golden(model, _tensors(bundle / "golden.safetensors"))
    return model


def copy_bundle(source: Path, destination: Path, *, max_bytes: int) -> None:
    """Copy the manifest and the files it names, verified, to `destination`; whole or not at all. Raises BundleError."""
    manifest = read_manifest(source)
    names = ("manifest.json", *manifest.files)
    missing = [name for name in names if not (source / name).is_file()]
    if missing:
        raise BundleError(f"the bundle lacks {', '.join(missing)}: write it again")
    size = sum((source / name).stat().st_size for name in names)
    if size > max_bytes:
        raise BundleError(f"the bundle has {size:,} bytes, the limit is {max_bytes:,}")
    with atomic_dir(destination) as temporary:
        for name in names:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, temporary / name)
        copied = read_manifest(temporary)
        if copied.sha256 != manifest.sha256:
            raise BundleError("the bundle changed while it was copied: push it again when it is complete")
        verify_files(temporary, copied)


def read_manifest(bundle: Path) -> Manifest:
    """manifest.json of the folder. Raises BundleError when it is absent or not one of this format."""
    try:
        content = (bundle / "manifest.json").read_bytes()
    except OSError as error:
        raise BundleError("the bundle has no readable manifest.json: is this the model's folder?") from error
    try:
        fields = json.loads(content)
        if fields["format"] not in FORMATS:
            formats = " and ".join(map(str, FORMATS))
            raise BundleError(f"manifest.json has format {fields['format']!r}, this release loads {formats}")
        manifest = Manifest(
            sha256=hashlib.sha256(content).hexdigest(),
            feature_schema_hash=str(fields["feature_schema_hash"]),
            schema=dict(fields["schema"]),
            files={str(name): str(digest) for name, digest in fields["files"].items()},
        )
        list(manifest.schema["clusters"]), list(manifest.schema["profile"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"manifest.json is not a bundle's manifest: {type(error).__name__} {error}") from error
    max_touches = manifest.schema.get("max_touches", DEFAULT_MAX_TOUCHES)
    if type(max_touches) is not int or max_touches < 1:
        raise BundleError(f"manifest.json has schema.max_touches {max_touches!r}, it must be a whole number from 1 on")
    _check_names(manifest)
    return manifest


def verify_files(bundle: Path, manifest: Manifest) -> None:
    """Raises BundleError naming the first file that is missing or whose bytes have another SHA-256."""
    for name, expected in sorted(manifest.files.items()):
        try:
            actual = sha256_file(bundle / name)
        except OSError as error:
            raise BundleError(f"the bundle lacks {name}: write it again") from error
        if actual != expected:
            raise BundleError(f"{name} has SHA-256 {actual}, the manifest says {expected}: the file was altered")


def _check_names(manifest: Manifest) -> None:
    unsafe = [
        name
        for name in manifest.files
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name or "\0" in name
    ]
    if unsafe:
        raise BundleError(f"manifest.json names {unsafe[0]!r}, which lies outside the bundle")
    unlisted = [name for name in REQUIRED if name not in manifest.files]
    if unlisted:
        raise BundleError(f"manifest.json lists no {', '.join(unlisted)}")
    if manifest.schema.get("feature_schema_hash", manifest.feature_schema_hash) != manifest.feature_schema_hash:
        raise BundleError("manifest.json has two different feature_schema_hash values")


def _tensors(path: Path) -> dict[str, Array]:
    try:
        return safetensors.numpy.load(path.read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        raise BundleError(f"{path.name} cannot be read: {error}") from error


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # requests run side by side in threads of their own
    options.log_severity_level = 3
    try:  # from bytes, so that a graph cannot name a weight file outside the bundle
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base but this
        raise BundleError(f"{path.name} cannot be loaded: {error}") from error


def _catalogue(path: Path, clusters: int) -> Catalogue:
    tensors = _tensors(path)
    for name, dtype in CATALOGUE.items():
        if name not in tensors or tensors[name].dtype != dtype:
            raise BundleError(f"{path.name} needs '{name}' of type {np.dtype(dtype).name}")
    items, cluster, content = tensors["item_id"], tensors["cluster_index"], tensors["content"]
    if len(items) == 0 or content.ndim != 2 or {len(tensors[name]) for name in CATALOGUE} != {len(items)}:
        raise BundleError(f"{path.name}: its arrays must have one row an item, and at least one item")
    order = np.argsort(items)
    if (np.diff(items[order]) == 0).any():
        raise BundleError(f"{path.name} holds an item_id twice")
    if cluster.min() < 0 or cluster.max() > clusters or not np.isfinite(content).all():
        raise BundleError(f"{path.name}: a cluster index lies outside 0..{clusters} or a content value is not finite")
    return Catalogue(
        item_id=items[order],
        cluster_index=np.append(cluster[order], clusters),
        content=np.vstack([content[order], np.zeros((1, content.shape[1]), np.float32)]),
    )


def _check_shapes(model: LoadedModel) -> None:
    inputs = {node.name: node for node in model.session.get_inputs()}
    found = {name: node.type for name, node in inputs.items()}
    if found != INPUTS:
        raise BundleError(f"score.onnx takes {found}, not {INPUTS}")
    if not {node.name for node in model.session.get_outputs()} >= set(OUTPUTS):
        raise BundleError(f"score.onnx lacks one of the outputs {', '.join(OUTPUTS)}")
    widths = {"content_BLD": model.catalogue.content.shape[1], "profile_BP": profile_width(model.profile_spec)}
    for name, width in widths.items():
        graph_width = inputs[name].shape[-1]
        if isinstance(graph_width, int) and graph_width != width:
            raise BundleError(f"score.onnx takes {name} of width {graph_width}, the bundle's data has width {width}")


def profile_width(profile_spec: list[dict[str, Any]]) -> int:
    """P of profile_BP: the encoded profile's width, or one column of zeros where the model has no profile."""
    return max(encoded_width(profile_spec), 1)


def _check_golden(model: LoadedModel, golden: dict[str, Array]) -> None:
    missing = [name for name in (*INPUTS, *OUTPUTS) if name not in golden]
    if missing or len(golden["p_do_B"]) == 0:
        raise BundleError(f"golden.safetensors lacks {', '.join(missing) or 'rows'}")
    try:
        scores = model.score(**{name: golden[name] for name in INPUTS})
    except AllocatorError as error:
        raise BundleError(f"the golden rows cannot be scored: {error}") from error
    for name in OUTPUTS:
        got, expected = getattr(scores, name), golden[name]
        if got.shape != expected.shape or not np.allclose(got, expected, rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL):
            off = "another shape" if got.shape != expected.shape else f"off by up to {np.abs(got - expected).max():.3g}"
            raise BundleError(f"score.onnx does not reproduce the golden rows: {name} has {off}")
