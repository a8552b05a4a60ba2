"""Writes messages to a stream, each carrying everything that was ready when the stream became writable.

No timer and no artificial wait: one frame alone is written at once; what arrives while a write is under way leaves
with the next one. That is all the batching there is, and under load it is a lot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

M = TypeVar("M")


class BatchWriter(Generic[M]):
    """Pulls messages from `build` and writes them.

    Args:
        build: makes the next message from what is ready, or None when there is nothing.
        write: writes one message; returns when the stream takes another.
    """

    __slots__ = ("_build", "_idle", "_write")

    def __init__(self, build: Callable[[], M | None], write: Callable[[M], Awaitable[object]]) -> None:
        self._build = build
        self._write = write
        self._idle: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Says that there is something to write."""
        if self._idle is not None:
            if not self._idle.done():
                self._idle.set_result(None)
            self._idle = None

    async def run(self) -> None:
        """Writes until cancelled or until the stream breaks (then raises what `write` raised)."""
        loop = asyncio.get_running_loop()
        while True:
            message = self._build()
            if message is None:
                self._idle = loop.create_future()
                await self._idle
            else:
                await self._write(message)
