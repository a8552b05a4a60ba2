"""Arguments of `start` in older releases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshserve.routing.deprecation import warn_once

_MOVED = {"http_host": "host", "http_port": "port", "http_middlewares": "middlewares"}
_GONE = ("detached", "dedicated_cpu")


def check_legacy(arguments: Mapping[str, Any]) -> None:
    """Warns about those without a meaning today.

    Raises:
        ValueError: one has moved into `http_options`.
        TypeError: there never was such an argument.
    """
    for name, value in arguments.items():
        if name in _MOVED:
            instead = f"http_options={{{_MOVED[name]!r}: {value!r}}}"
            if name == "http_middlewares":
                instead = "the ASGI application of a deployment (`@serve.ingress`), which takes middlewares"
            raise ValueError(f"start({name}=...) is no longer supported: use {instead}.")
        if name not in _GONE:
            raise TypeError(f"start() got an unexpected keyword argument {name!r}.")
        warn_once(f"start.{name}", f"start({name}=...) has no meaning any more: the mesh runs until `shutdown`.")
