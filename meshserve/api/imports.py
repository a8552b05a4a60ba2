"""From an object to its import path; `rpc.import_path` goes the other way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshserve.rpc.import_path import import_object


def import_path(target: Callable[..., Any]) -> str:
    """`module:name` of a function or class that other processes can import.

    Raises:
        ValueError: they cannot: it is defined in the main program or inside a function.
    """
    module, name = getattr(target, "__module__", ""), getattr(target, "__qualname__", "")
    advice = "define it at the top level of a module of its own"
    if not module or module == "__main__" or "<" in name:
        raise ValueError(f"{target!r} cannot be imported by other processes: {advice}.")
    path = f"{module}:{name}"
    if import_object(path) is not target:
        raise ValueError(f"{target!r} cannot be imported by other processes, {path} is something else: {advice}.")
    return path
