"""How late an event loop is: a timer every two seconds, and how much later than due it rang.

A loop that is blocked by synchronous work, or that has more to do than it can, shows here before anywhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from meshserve.telemetry import catalogue
from meshserve.telemetry.registry import PROCESS
from meshserve.telemetry.series import Histogram, Reading

PERIOD_S = 2.0
"""Seldom enough for an idle process to sleep: each look wakes a thread, which costs it 0.1 ms and more."""


class LoopLag:
    """Lateness of one loop of this process.

    Args:
        name: "io" or "user".

    Attributes:
        latest_s: how late it was when it was sampled last.
    """

    def __init__(self, name: str) -> None:
        self._labels = (name,)
        self._lag = Histogram(catalogue.LOOP_LAG.buckets)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due_at = 0.0
        self.latest_s = 0.0

    @property
    def tasks(self) -> int:
        """Tasks of the loop that are not over; 0 before there is a loop."""
        return len(asyncio.all_tasks(self._loop)) if self._loop is not None else 0

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Samples a loop for as long as it runs; from any thread. Another loop takes the place of the one before."""
        self._loop = loop
        loop.call_soon_threadsafe(self._arm, loop)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not the loop's own clock: uvloop's stands still while a callback runs.
        self._due_at = time.monotonic() + PERIOD_S
        loop.call_later(PERIOD_S, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self.latest_s = max(time.monotonic() - self._due_at, 0.0)
        self._lag.observe(self.latest_s)
        if loop is self._loop:
            self._arm(loop)

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        yield catalogue.LOOP_LAG, self._labels, self._lag


def watch_loop(name: str, loop: asyncio.AbstractEventLoop) -> None:
    """Records the lateness of a loop of this process.

    Args:
        name: "io" or "user".
    """
    PROCESS.recorder(LoopLag, name).watch(loop)
