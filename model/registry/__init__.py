"""The model registry: runs, versions and aliases in MLflow. The only package that imports mlflow."""

from __future__ import annotations

from model.registry.client import Champion, Version, champion, promote, record, register

__all__ = ["Champion", "Version", "champion", "promote", "record", "register"]
