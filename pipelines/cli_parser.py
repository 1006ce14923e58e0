"""Parsers of the subcommands: plain options, then the sections of the configuration with `--section.key` overrides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace, set_parsing_settings  # type: ignore[attr-defined]

from features.errors import ConfigError
from features.settings import SECTIONS, one_line

Sections = TypeVar("Sections")


def parser_for(command: str, description: str) -> ArgumentParser:
    """A parser that raises ArgumentError (exit code 2) instead of exiting."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return ArgumentParser(prog=f"alm-mta {command}", description=description, exit_on_error=False, allow_abbrev=False)


def listing(head: str, summaries: Mapping[str, str], note: str) -> str:
    """What a command that takes a name prints of the names there are."""
    width = max(map(len, summaries), default=0)
    lines = [f"  {name:<{width}}  {summary}" for name, summary in summaries.items()]
    return "\n".join([head, "", *lines, "", note, ""])


def add_sections(parser: ArgumentParser, cls: type[Any]) -> None:
    """Add `--config FILE` and an option for every key of every section of the dataclass `cls`."""
    shown = "YAML of sections, those of other commands unread; options on the command line override it"
    file = parser.add_argument("--config", action=_ConfigFile, help=shown)
    file.unread = set(SECTIONS).difference(field.name for field in dataclasses.fields(cls))
    parser.add_class_arguments(cls, None)


def sections_of(parser: ArgumentParser, options: Namespace, cls: type[Sections]) -> Sections:
    """The `cls` that the parsed options describe. Raises ConfigError from the owners' own checks."""
    made = parser.instantiate(options)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return cls(**{name: made[name] for name in names})


class _ConfigFile(ActionConfigFile):
    """A file of sections that serves every command: each reads its own; what is null there is as if absent."""

    unread: set[str]

    def __call__(self, parser: Any, cfg: Any, values: Any, _: str | None = None) -> None:
        try:
            given = yaml.safe_load(Path(values).read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"--config {values}: {one_line(error)}") from error
        if not isinstance(given, dict):
            raise ConfigError(f"--config {values}: must be a mapping of sections, not {type(given).__name__}")
        own = {name: value for name, value in given.items() if value is not None and name not in self.unread}
        self.apply_config(parser, cfg, self.dest, yaml.safe_dump(own))
