"""Whether the user's loop still turns, for deployments that define no health check of their own."""

from __future__ import annotations

import asyncio
import time

STUCK_AFTER_S = 300.0
"""A handler may legitimately block its loop for minutes (a model that compiles); beyond this it is taken for stuck."""


class LoopWatch:
    """Posts a probe to a loop and looks later whether it came back.

    Args:
        loop: the user's loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked_at: float | None = None

    def check(self, now: float) -> None:
        """Asks the loop for a sign of life unless an earlier question is open.

        Raises:
            RuntimeError: it has not answered for `STUCK_AFTER_S`.
        """
        if self._asked_at is None:
            self._asked_at = now
            self._loop.call_soon_threadsafe(self._answer)
        elif now - self._asked_at > STUCK_AFTER_S:
            raise RuntimeError(
                f"the event loop of user code has not turned for {now - self._asked_at:.0f} s: "
                "an asynchronous method blocks it; make the method synchronous, or await something"
            )

    def _answer(self) -> None:
        self._asked_at = None

    @property
    def lag_s(self) -> float:
        """For how long the open question has been waiting."""
        return time.monotonic() - self._asked_at if self._asked_at is not None else 0.0
