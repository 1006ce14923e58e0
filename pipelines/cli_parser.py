"""Parsers of the subcommands: plain options, then the sections of the configuration with `--section.key` overrides."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

Sections = TypeVar("Sections")


def parser_for(command: str, description: str) -> ArgumentParser:
    """A parser that raises ArgumentError (exit code 2) instead of exiting."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return ArgumentParser(prog=f"alm-mta {command}", description=description, exit_on_error=False, allow_abbrev=False)


def add_sections(parser: ArgumentParser, cls: type[Any]) -> None:
    """Add `--config FILE` and an option for every key of every section of the dataclass `cls`."""
    parser.add_argument("--config", action="config", help="YAML of sections; options on the command line override it")
    parser.add_class_arguments(cls, None)


def sections_of(parser: ArgumentParser, options: Namespace, cls: type[Sections]) -> Sections:
    """The `cls` that the parsed options describe. Raises ConfigError from the owners' own checks."""
    made = parser.instantiate(options)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return cls(**{name: made[name] for name in names})
