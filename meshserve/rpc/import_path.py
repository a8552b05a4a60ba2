"""Objects named by import paths in options: `package.module:name` or `package.module.name`."""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
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
        ValueError: the module has no such attribute, or it is a module itself.
    """
    if path.startswith(_OURS[0]):
        path = _OURS[1] + path.removeprefix(_OURS[0])
    module_name, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    file = path.partition(":")[0]
    if file.endswith(".py") or os.sep in file:
        written = file.removesuffix(".py").strip("./").replace(os.sep, ".")
        raise ModuleNotFoundError(
            f"{path!r} names a file: write the module and a name in it, as in '{written}:app'.", name=path
        )
    if not module_name or not name:
        raise ModuleNotFoundError(
            f"{path!r} is not an import path: write 'package.module.name' or 'package.module:name'.", name=path
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"cannot import {path!r}: no module named {error.name!r}. Is it installed where this process runs?"
            + _did_you_mean(error.name or "", _modules_beside(error.name or ""), 0.75),
            name=error.name,
        ) from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(
                f"cannot import {path!r}: {_missing(module_name, part)}{_did_you_mean(part, dir(found), 0.6)}"
            ) from None
    if isinstance(found, ModuleType):
        raise ValueError(f"cannot import {path!r}: {_is_module(path)}")
    return found


def _missing(module_name: str, name: str) -> str:
    whole = f"{module_name}.{name}"
    if hasattr(sys.modules[module_name], "__path__") and find_spec(whole) is not None:
        return _is_module(whole)
    return f"module {module_name!r} has no attribute {name!r}."


def _is_module(name: str) -> str:
    name = name.replace(":", ".")
    return f"{name!r} is a module: name something in it, as in '{name}:app'."


def _modules_beside(name: str) -> list[str]:
    """The modules that could have been meant by one that is not there."""
    package, dot, _ = name.rpartition(".")
    places = getattr(sys.modules.get(package), "__path__", ()) if package else None
    return [f"{package}{dot}{one.name}" for one in pkgutil.iter_modules(places)]


def _did_you_mean(wrong: str, there: Sequence[str], likeness: float) -> str:
    near = difflib.get_close_matches(wrong, there, 1, likeness)
    return f" Did you mean {near[0]!r}?" if near else ""
