"""The operator's code that the controller's process runs when it starts: to add a handler to its log, for example.

Named by the environment of the program that starts the mesh; a controller that Ray starts again calls it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshserve.rpc.import_path import import_from, import_object


def call_back(boot: Mapping[str, Any]) -> None:
    """Calls the function that `boot` names, if it names one; the controller does not start when that fails.

    Args:
        boot: `callback`, an import path, and `import_paths`, the folders that it may lie in.

    Raises:
        ModuleNotFoundError, ValueError: there is no such function.
        TypeError: what the path names cannot be called.
        Exception: what the function raises.
    """
    path = boot.get("callback", "")
    if not path:
        return
    import_from(boot["import_paths"])
    function = import_object(path)
    if not callable(function):
        raise TypeError(f"{path!r} is not callable; it must be a function without parameters.")
    function()
