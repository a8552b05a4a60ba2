"""Deprecation warnings: each once in a process, however often and from wherever what it is about is used."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent.parent)

_told: set[str] = set()


def warn_once(topic: str, message: str) -> None:
    """Warns the first time it is called about a topic, at the line of the user's that led here."""
    if topic not in _told:
        _told.add(topic)
        warnings.warn(message, DeprecationWarning, stacklevel=_users_level())


def was_told(*topics: str) -> bool:
    """Whether this process was warned about one of these."""
    return not _told.isdisjoint(topics)


def _users_level() -> int:
    """How many frames, counted as `warnings.warn` does in its caller, lie between that and code that is not ours."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
