"""YAML for people: fields in the order they were given, long texts as blocks."""

from __future__ import annotations

import re
from typing import Any

import yaml

_COLOUR = re.compile("\x1b\\[[0-9;]*m")


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines, such as tracebacks, as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # A block cannot hold colours, tabs, or blanks at the ends of lines.
    plain = "\n".join(line.rstrip() for line in _COLOUR.sub("", value).expandtabs().split("\n"))
    return dumper.represent_scalar("tag:yaml.org,2002:str", plain, style="|" if "\n" in plain else None)


_Dumper.add_representer(str, _text)


def as_yaml(value: Any) -> str:
    """A value of plain parts as YAML."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text
