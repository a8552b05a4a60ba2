"""Objects named by import paths in options: `package.module:name` or `package.module.name`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any


def import_from(folders: Sequence[str]) -> None:
    """Makes user modules importable from the folders of their program that exist on this machine."""
    for folder in reversed(folders):
        if folder not in sys.path and os.path.isdir(folder):
            sys.path.insert(0, folder)


_OURS = ("ray.serve.experimental.", "meshserve.experimental.")
"""What Ray Serve's files name by paths of its own is here, by ours; Ray Serve need not be installed."""


def import_object(path: str) -> Any:
    """Imports what a path names; may take as long as the user's modules take to import.

    Raises:
        ModuleNotFoundError: the path has no module, or the module or one that it imports does not exist.
        ValueError: the module has no such attribute.
    """
    if path.startswith(_OURS[0]):
        path = _OURS[1] + path.removeprefix(_OURS[0])
    module_name, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    if not module_name or not name:
        raise ModuleNotFoundError(
            f"{path!r} is not an import path: write 'package.module.name' or 'package.module:name'.", name=path
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"cannot import {path!r}: no module named {error.name!r}. Is it installed where this process runs?",
            name=error.name,
        ) from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(f"cannot import {path!r}: module {module_name!r} has no attribute {part!r}.") from None
    return found
