"""Classes and functions of users for processes where their modules need not be: pickled with the modules' code."""

from __future__ import annotations

import base64
import sys
from typing import Any

import cloudpickle


def by_value(found: Any, module_name: str) -> str:
    """What was found in a module, by cloudpickle as base64 text; raises whatever pickling it raises.

    What else of the module it uses goes along; other modules are imported where it is loaded, and so is this package.
    """
    module = sys.modules.get(module_name)
    if module is None or module_name.partition(".")[0] == "meshserve":
        return _text(found)
    cloudpickle.register_pickle_by_value(module)
    try:
        return _text(found)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _text(found: Any) -> str:
    return base64.b64encode(cloudpickle.dumps(found)).decode()
