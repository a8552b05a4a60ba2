"""A thread for one user policy, with an event loop that also runs between decisions.

A policy may begin tasks in it, such as one that polls a queue, and find at its next decision what they saw.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class PolicyThread:
    """Calls functions one after the other, in a thread in which an event loop runs.

    Args:
        name: of the thread, for people who look at stacks.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon, because a policy that never returns must not keep the controller's process.
        threading.Thread(target=self._run, name=f"policy {name}", daemon=True).start()

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """What the function gives; raises what it raises. Not to be called after `close`."""

        async def called() -> T:
            return function(*args)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(called(), self._loop))

    def close(self) -> None:
        """Cancels what was begun in the loop and ends the thread, without waiting for either."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # its end cancels the tasks
            runner.get_loop().run_forever()
