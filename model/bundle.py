"""The model bundle: a folder that holds all a scorer needs and nothing that is unpickled.

manifest.json          format, feature schema and its hash, SHA-256 of every other file; its own is the model's name
weights.safetensors    networks and their buffers          bank.safetensors       the marginalisation bank
config.yaml            sizes and settings                  history.json           loss curves, source of the scale
score.onnx             journeys -> Δ, P(do T), P(do ∅)      golden.safetensors     inputs with the outputs to expect
catalogue.safetensors  known items and their content
snapshot.json          what the inputs looked like at training (model/snapshot.py); older bundles lack it
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

from features.errors import BundleError
from features.files import atomic_dir, read_json, sha256_file, write_json
from model.data import Catalogue
from model.front_door import Bank, FrontDoorModel, Sizes
from model.score_graph import export_score_graph, golden_rows
from model.settings import ModelConfig

FORMAT = 2
CATALOGUE_NAMES = {
    "item_id_I": "item_id",
    "author_id_I": "author_id",
    "cluster_index_I": "cluster_index",
    "content_ID": "content",
}


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A loaded bundle."""

    model: FrontDoorModel
    bank: Bank
    schema: dict[str, Any]
    calibration: dict[str, Any]
    """`Calibration` of the scale, as a mapping."""
    sha256: str
    snapshot: dict[str, Any] = field(default_factory=dict)
    """Histograms of the inputs at training; empty where the bundle has none."""


def bundle_sha256(folder: Path) -> str:
    """The bundle's name: SHA-256 of its manifest, which holds the hash of every other file."""
    return sha256_file(folder / "manifest.json")


def save_bundle(
    out: Path,
    *,
    model: FrontDoorModel,
    bank: Bank,
    schema: dict[str, Any],
    catalogue: Catalogue,
    history: list[dict[str, float]],
    calibration: dict[str, Any],
    snapshot: dict[str, Any] | None = None,
) -> str:
    """Write the bundle as a whole; returns its SHA-256. Equal weights and data give equal bytes."""
    model = model.cpu().eval()
    with atomic_dir(out) as folder:
        save_file(_contiguous(model.state_dict()), folder / "weights.safetensors")
        save_file(_contiguous(vars(bank)), folder / "bank.safetensors")
        save_file(_catalogue_tensors(catalogue), folder / "catalogue.safetensors")
        settings = {
            "model": asdict(model.config),
            "sizes": asdict(model.sizes)
            | {name: list(getattr(model.sizes, name)) for name in ("responses", "ignored")},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=True))
        write_json(folder / "history.json", {"epochs": history, "calibration": calibration})
        if snapshot is not None:
            write_json(folder / "snapshot.json", snapshot)
        export_score_graph(model, bank, folder / "score.onnx")
        save_file(golden_rows(model, bank), folder / "golden.safetensors")
        hashes = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
        manifest = {
            "format": FORMAT,
            "feature_schema_hash": schema["feature_schema_hash"],
            "schema": schema,
            "files": hashes,
        }
        write_json(folder / "manifest.json", manifest)
    return bundle_sha256(out)


def load_bundle(folder: Path) -> Bundle:
    """Verify every file against the manifest and load the model. Raises BundleError naming what is wrong."""
    manifest = verify_bundle(folder)
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"{folder}: bundle format {manifest.get('format')}, this version reads format {FORMAT}; train again"
        )
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    listed: dict[str, Any] = settings["sizes"]
    sizes = Sizes(**listed | {name: tuple(listed[name]) for name in ("responses", "ignored")})
    model = FrontDoorModel(ModelConfig(**settings["model"]), sizes)
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    bank = Bank(**load_file(folder / "bank.safetensors"))
    return Bundle(
        model=model.eval(),
        bank=bank,
        schema=manifest["schema"],
        calibration=read_json(folder / "history.json")["calibration"],
        sha256=bundle_sha256(folder),
        snapshot=read_json(folder / "snapshot.json") if "snapshot.json" in manifest["files"] else {},
    )


def load_catalogue(folder: Path) -> Catalogue:
    """The items that a bundle knows."""
    tensors = load_file(folder / "catalogue.safetensors")
    return Catalogue(**{field: tensors[name].numpy() for field, name in CATALOGUE_NAMES.items()})


def verify_bundle(folder: Path) -> dict[str, Any]:
    """The manifest, after every file's hash was compared with it, whatever the bundle's format."""
    if not (folder / "manifest.json").is_file():
        raise BundleError(f"{folder}: no manifest.json here; this is not a model bundle")
    manifest: dict[str, Any] = read_json(folder / "manifest.json")
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != expected:
            raise BundleError(f"{path}: missing or altered since the bundle was written; train or download it again")
    return manifest


def _contiguous(tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: value.detach().contiguous().clone() for name, value in tensors.items()}


def _catalogue_tensors(catalogue: Catalogue) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(getattr(catalogue, field)) for field, name in CATALOGUE_NAMES.items()}
