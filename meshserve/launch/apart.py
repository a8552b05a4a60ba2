"""Ray's calls block, so they run beside the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function on a thread of the loop's pool.

    In an `atexit` handler, where programs call `serve.shutdown()`, Python's pools take nothing any more: there it is
    called in place.
    """
    call = partial(function, *args, **kwargs)
    try:
        running = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError:
        return call()
    return await running
