"""The Python API: deployments, applications, run and its companions.

Programs import it from `meshserve`; ported ones also from here, as from the peer's module of this name.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def __getattr__(name: str) -> Any:
    """A public name of `meshserve` that is not the name of a module here."""
    public = importlib.import_module("meshserve")
    if name in public.__all__ and importlib.util.find_spec(f"meshserve.api.{name}") is None:
        return getattr(public, name)
    raise AttributeError(f"module 'meshserve.api' has no attribute {name!r}")
