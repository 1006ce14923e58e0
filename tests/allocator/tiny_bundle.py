"""A real model bundle, small enough to recompute by hand: `reference` is the same model in numpy.

u_l = mask_l (content_l·w + effect[cluster_l]) exp(−gap_l / 24);  p(z) = σ(b + profile·a + z);
delta_l = p(Σu) − p(Σu − u_l),  p_do = p(Σu),  p_do_none = p(0).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from onnx import TensorProto, helper, numpy_helper

from features.encoding import encoded_width

CLUSTERS = [10, 20, 30]
EFFECT = np.array([0.9, -0.6, 0.2, 0.0], np.float32)  # the last one: unknown cluster
WEIGHT = np.array([0.8, -0.4], np.float32)
BIAS = np.float32(-1.5)
PROFILE = [
    {"column": "profile__age", "kind": "numeric", "median": 30.0, "mean": 32.0, "std": 8.0},
    {"column": "profile__country", "kind": "categorical", "categories": ["de", "fr"]},
]
PROFILE_WEIGHT = np.array([0.3, 0.5, -0.2, 0.1, -0.4], np.float32)
ITEMS = np.arange(100, 112)


def catalogue() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "item_id": ITEMS.astype(np.int64),
        "author_id": (ITEMS % 5).astype(np.int64),
        "cluster_index": (ITEMS % 3).astype(np.int64),
        "content": rng.normal(size=(len(ITEMS), 2)).astype(np.float32),
    }


def inputs(rng: np.random.Generator, B: int, L: int, profile: bool = True) -> dict[str, np.ndarray]:
    width = len(PROFILE_WEIGHT) if profile else 1
    return {
        "cluster_BL": rng.integers(0, 4, (B, L)),
        "content_BLD": rng.normal(size=(B, L, 2)).astype(np.float32),
        "gap_hours_BL": rng.uniform(0, 100, (B, L)).astype(np.float32),
        "mask_BL": (rng.random((B, L)) < 0.8).astype(np.float32),
        "profile_BP": rng.normal(size=(B, width)).astype(np.float32) * profile,
    }


def reference(
    cluster_BL: np.ndarray,
    content_BLD: np.ndarray,
    gap_hours_BL: np.ndarray,
    mask_BL: np.ndarray,
    profile_BP: np.ndarray,
    effect: np.ndarray = EFFECT,
) -> dict[str, np.ndarray]:
    def p(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    u_BL = mask_BL * (content_BLD @ WEIGHT + effect[cluster_BL]) * np.exp(-gap_hours_BL / 24)
    base_B = BIAS + profile_BP @ _profile_weight(profile_BP.shape[1])
    total_B = base_B + u_BL.sum(1)
    outputs = {
        "delta_BL": p(total_B)[:, None] - p(total_B[:, None] - u_BL),
        "p_do_B": p(total_B),
        "p_do_none_B": p(base_B),
    }
    return {name: value.astype(np.float32) for name, value in outputs.items()}


def _profile_weight(width: int) -> np.ndarray:
    return PROFILE_WEIGHT if width == len(PROFILE_WEIGHT) else np.zeros(width, np.float32)


def graph(profile_width: int, effect: np.ndarray = EFFECT) -> bytes:
    """score.onnx."""
    constants = {
        "effect": effect,
        "w": WEIGHT,
        "a": _profile_weight(profile_width),
        "b": np.array(BIAS),
        "rate": np.array(-1 / 24, np.float32),
        "axis": np.array([1]),
    }
    nodes = [
        ("Gather", ["effect", "cluster_BL"], "effect_BL"),
        ("MatMul", ["content_BLD", "w"], "content_BL"),
        ("Add", ["content_BL", "effect_BL"], "raw_BL"),
        ("Mul", ["raw_BL", "mask_BL"], "masked_BL"),
        ("Mul", ["gap_hours_BL", "rate"], "age_BL"),
        ("Exp", ["age_BL"], "decay_BL"),
        ("Mul", ["masked_BL", "decay_BL"], "u_BL"),
        ("ReduceSum", ["u_BL", "axis"], "sum_B1"),
        ("Squeeze", ["sum_B1", "axis"], "sum_B"),
        ("MatMul", ["profile_BP", "a"], "profile_B"),
        ("Add", ["profile_B", "b"], "base_B"),
        ("Sigmoid", ["base_B"], "p_do_none_B"),
        ("Add", ["base_B", "sum_B"], "total_B"),
        ("Sigmoid", ["total_B"], "p_do_B"),
        ("Unsqueeze", ["total_B", "axis"], "total_B1"),
        ("Sub", ["total_B1", "u_BL"], "without_BL"),
        ("Sigmoid", ["without_BL"], "p_without_BL"),
        ("Unsqueeze", ["p_do_B", "axis"], "p_do_B1"),
        ("Sub", ["p_do_B1", "p_without_BL"], "delta_BL"),
    ]
    shapes = {
        "cluster_BL": (TensorProto.INT64, ["B", "L"]),
        "content_BLD": (TensorProto.FLOAT, ["B", "L", 2]),
        "gap_hours_BL": (TensorProto.FLOAT, ["B", "L"]),
        "mask_BL": (TensorProto.FLOAT, ["B", "L"]),
        "profile_BP": (TensorProto.FLOAT, ["B", profile_width]),
    }
    outputs = {"delta_BL": ["B", "L"], "p_do_B": ["B"], "p_do_none_B": ["B"]}
    built = helper.make_graph(
        [helper.make_node(kind, takes, [gives]) for kind, takes, gives in nodes],
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in shapes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def write_bundle(
    folder: Path,
    *,
    effect: np.ndarray = EFFECT,
    profile: bool = True,
    golden: dict[str, Any] | None = None,
    **more_schema: Any,
) -> dict[str, str]:
    """Write the bundle and return what a push says about it: sha256 and feature_schema_hash."""
    spec = PROFILE if profile else []
    folder.mkdir(parents=True)
    (folder / "score.onnx").write_bytes(graph(max(encoded_width(spec), 1), effect))
    safetensors.numpy.save_file(catalogue(), folder / "catalogue.safetensors")
    rows = inputs(np.random.default_rng(1), B=8, L=5, profile=profile)
    rows = {**rows, **reference(**rows, effect=effect), **(golden or {})}
    safetensors.numpy.save_file(rows, folder / "golden.safetensors")
    (folder / "config.yaml").write_text("model: tiny\n")
    return write_manifest(folder, profile=spec, more_schema=more_schema)


def write_manifest(
    folder: Path,
    *,
    profile: list[dict[str, Any]] = PROFILE,
    more_schema: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, str]:
    """(Re)write manifest.json over the files that are there, with `changes` to its fields."""
    schema = {"clusters": CLUSTERS, "profile": profile, "embedding_dim": 2, **(more_schema or {})}
    schema_hash = hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()
    files = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
        if file.name != "manifest.json"
    }
    fields = {"format": 2, "feature_schema_hash": schema_hash, "schema": schema, "files": files, **changes}
    content = json.dumps(fields, sort_keys=True, indent=2).encode()
    (folder / "manifest.json").write_bytes(content)
    return {"sha256": hashlib.sha256(content).hexdigest(), "feature_schema_hash": schema_hash}
