"""One timer of an owner: set again and again, rings once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls back on the running loop.

    Args:
        ring: called when the time has come.
    """

    __slots__ = ("_ring", "_timer")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, delay_s: float) -> None:
        """Rings after a while, unless it is to ring sooner anyway."""
        loop = asyncio.get_running_loop()
        at = loop.time() + delay_s
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._rings)

    @property
    def is_set(self) -> bool:
        """Whether it is going to ring."""
        return self._timer is not None

    def _rings(self) -> None:
        self._timer = None
        self._ring()

    def clear(self) -> None:
        """Does not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
