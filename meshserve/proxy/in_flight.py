"""How many requests a proxy has in hand, of both ingresses."""

from __future__ import annotations

import asyncio


class InFlight:
    """Counts requests: `with in_flight: ...` around each, or `begin` and `end`. Lives on the I/O thread.

    Attributes:
        count: requests that are not over.
    """

    __slots__ = ("_idle", "count")

    def __init__(self) -> None:
        self.count = 0
        self._idle: asyncio.Event | None = None

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *_exception: object) -> None:
        self.end()

    def begin(self) -> None:
        """One more request."""
        self.count += 1

    def end(self) -> None:
        """A request is over."""
        self.count -= 1
        if not self.count and self._idle is not None:
            self._idle.set()

    async def wait_idle(self, timeout_s: float) -> None:
        """Returns when no request is in hand, or when the time is up."""
        if not self.count:
            return
        if self._idle is None:
            self._idle = asyncio.Event()
        self._idle.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            pass
