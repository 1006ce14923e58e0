"""Settings travel as one YAML text; every owner parses its own section of it into its frozen dataclass."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml

from features.errors import ConfigError

Section = TypeVar("Section")

SECTIONS = ("contract", "journeys", "shards", "model", "train", "sweep", "judge", "registry", "allocator", "plan")
"""Every section there is, whoever owns it."""


@dataclass(frozen=True, kw_only=True)
class ContractConfig:
    """How the logs at hand spell the data contract."""

    mapping: dict[str, dict[str, str]] = field(default_factory=dict)
    """table -> (the contract's column -> the files' column), for logs with other names."""


def load_section(yaml_text: str, section: str, cls: type[Section]) -> Section:
    """The `section` of `yaml_text` as a `cls`; a section that is absent means its defaults.

    Raises ConfigError naming the section or key that is unknown, or whose value is of another type.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    values = _mapping(yaml_text).get(section) or {}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{section}", type=cls)
    try:
        parsed = parser.instantiate(parser.parse_object({section: values}))
    except ArgumentError as error:
        raise ConfigError(f"config: {one_line(error)}") from error
    loaded: Section = parsed[section]
    return loaded


def to_yaml(config: Any) -> str:
    """A dataclass of sections as YAML: keys sorted, tuples as lists; equal configs are equal texts."""
    return yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=True, allow_unicode=True)


def one_line(error: BaseException) -> str:
    """The error's text on one line."""
    return " ".join(str(error).split())


def _mapping(yaml_text: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(yaml_text)
    except yaml.YAMLError as error:
        raise ConfigError(f"config is not YAML: {one_line(error)}") from error
    if values is not None and not isinstance(values, dict):
        raise ConfigError(f"config must be a mapping of sections, not {type(values).__name__}")
    unknown = sorted(str(name) for name in set(values or {}).difference(SECTIONS))
    if unknown:
        raise ConfigError(f"config: no section '{unknown[0]}'; there are {', '.join(SECTIONS)}")
    return values or {}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
