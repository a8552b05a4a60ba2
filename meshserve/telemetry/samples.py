"""Prometheus text read back: the few series that somebody asks for, out of many."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")

Sample: TypeAlias = tuple[str, dict[str, str], float]
"""A name (with `_bucket` and the like), labels, and the value."""


def samples(text: bytes, names: frozenset[str]) -> Iterator[Sample]:
    """The series with these names.

    Args:
        text: as `telemetry.exposition` writes it: nothing behind the value.
    """
    for line in text.decode().split("\n"):
        name, brace, rest = line.partition("{")
        if not brace:
            name, _, value = line.partition(" ")
            if name in names:
                yield name, {}, float(value)
        elif name in names:
            labels, _, value = rest.rpartition("} ")
            yield name, {key: _unescaped(text) for key, text in _LABEL.findall(labels)}, float(value)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text) if "\\" in text else text
