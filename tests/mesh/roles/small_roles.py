"""Roles for tests of the launcher; workers of the tests' cluster import them from this folder."""

from types import SimpleNamespace
from typing import Any


def idle(boot: dict[str, Any]) -> SimpleNamespace:
    """Says where it would listen."""
    return SimpleNamespace(address=f"{boot['host']}:1", stop=lambda: None)


def failing(boot: dict[str, Any]) -> SimpleNamespace:
    """Does not start."""
    raise ValueError(f"cannot start: {boot['reason']}")
