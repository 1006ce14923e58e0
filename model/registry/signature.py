"""What a registered model takes and gives: one row a journey."""

from __future__ import annotations

from typing import Any

from mlflow.models import ModelSignature
from mlflow.types.schema import Array, ColSpec, DataType, Schema, TensorSpec


def signature_of(schema: dict[str, Any]) -> ModelSignature:
    """Touches oldest first as arrays of equal length, profile columns as scalars; out come Δ and both P(do)."""
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(Array(DataType.long), "item_id"),
        ColSpec(Array(DataType.long), "cluster_id"),
        ColSpec(Array(DataType.double), "gap_hours"),
    ]
    kinds = {"numeric": DataType.double, "categorical": DataType.string}
    inputs += [ColSpec(kinds[spec["kind"]], spec["column"], required=False) for spec in schema["profile"]]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(Array(DataType.double), "delta"),
        ColSpec(DataType.double, "p_do"),
        ColSpec(DataType.double, "p_do_none"),
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))
