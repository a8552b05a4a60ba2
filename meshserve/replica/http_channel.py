"""Items of an invocation as ASGI sees them: what HTTP requests and WebSockets have in common.

Applications may cancel a `receive` and call it again (Starlette asks so whether the client is still there), and may
send from several tasks at once. An invocation allows neither, so the input is read by a task of its own, and where the
output has no room, senders stand in line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from meshserve.model.call import Payload
from meshserve.replica.adapter import Invocation

T = TypeVar("T")

READ_AHEAD_ITEMS = 8
"""Input items that wait for the application; with all of them taken, the client is not read any further."""


class Outlet:
    """Sends items in the order in which they were given.

    Args:
        invocation: the call.
    """

    __slots__ = ("_invocation", "_line")

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._line: asyncio.Lock | None = None

    def try_put(self, item: Payload) -> bool:
        """Sends an item if there is room and nobody waits for it."""
        if self._line is not None and self._line.locked():
            return False
        return self._invocation.try_send(item)

    async def put(self, items: Iterable[Payload]) -> None:
        """Sends items, waiting for room where there is none."""
        for item in items:
            if not self.try_put(item):
                await self._put_in_line(item)

    async def _put_in_line(self, item: Payload) -> None:
        if self._line is None:
            self._line = asyncio.Lock()
        async with self._line:
            await self._invocation.send(item)


class Inlet(Generic[T]):
    """Reads input items ahead of the application, by a few.

    Args:
        invocation: the call.
        decode: makes something of an item; what it makes None of is left out.
    """

    __slots__ = ("_decode", "_invocation", "_queue", "_task")

    def __init__(self, invocation: Invocation, decode: Callable[[Payload], T | None]) -> None:
        self._invocation = invocation
        self._decode = decode
        self._queue: asyncio.Queue[T | None] = asyncio.Queue(READ_AHEAD_ITEMS)
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Starts to read."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._read())

    async def get(self) -> T | None:
        """The next item, or None when the input has ended; cancelling it loses nothing."""
        self.open()
        return await self._queue.get()

    async def _read(self) -> None:
        async for item in self._invocation.inputs():
            decoded = self._decode(item)
            if decoded is not None:
                await self._queue.put(decoded)
        await self._queue.put(None)

    def close(self) -> None:
        """Stops reading."""
        if self._task is not None:
            self._task.cancel()
