"""`Deployment` and `Application`, for annotations.

`serve.deployment` is the decorator all the same: see the end of `meshserve/__init__.py`. So that a replica that only
needs the decorator does not pay for it, this module imports what it names when it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshserve.api.application import Application
    from meshserve.api.deployment import Deployment

_HOMES = {"Application": "meshserve.api.application", "Deployment": "meshserve.api.deployment"}

__all__ = ["Application", "Deployment"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'meshserve.deployment' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
