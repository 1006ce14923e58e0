"""The model registry: runs, versions and aliases in MLflow. The only package that imports mlflow."""

from __future__ import annotations

from model.registry.client import (
    Champion,
    Version,
    champion,
    champion_version,
    evaluation_of,
    promote,
    record,
    register,
)

__all__ = ["Champion", "Version", "champion", "champion_version", "evaluation_of", "promote", "record", "register"]
