"""The one place where a replica says yes or no: strictly at most `limit` calls at a time.

Checked on the I/O thread before anything of the call is decoded, so two callers can never both get the last slot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Admission:
    """Counts accepted calls.

    Attributes:
        ongoing: calls accepted and not over.
        limit: the most at a time (`max_ongoing_requests`).
        draining: accept nothing more.
    """

    __slots__ = ("_hungry", "_idle_callbacks", "draining", "limit", "ongoing")

    def __init__(self, limit: int) -> None:
        self.ongoing = 0
        self.limit = limit
        self.draining = False
        self._hungry: deque[Callable[[], None]] = deque()
        self._idle_callbacks: list[Callable[[], None]] = []

    def admit(self) -> bool:
        """Takes a slot if there is one."""
        if self.ongoing >= self.limit or self.draining:
            return False
        self.ongoing += 1
        return True

    def force(self) -> None:
        """Takes a slot beyond the limit (broadcast)."""
        self.ongoing += 1

    def release(self) -> None:
        """Gives a slot back, and tells those callers that have waited longest for one.

        As many as there are slots: one that was told before and had no use for a slot must not keep it from others.
        """
        self.ongoing -= 1
        if self._hungry and not self.draining:
            # When nothing is left that could be released, nobody would tell the rest.
            told = self.limit - self.ongoing if self.ongoing else len(self._hungry)
            for _ in range(min(told, len(self._hungry))):
                self._hungry.popleft()()
        if not self.ongoing:
            callbacks, self._idle_callbacks = self._idle_callbacks, []
            for callback in callbacks:
                callback()

    def when_room(self, announce: Callable[[], None]) -> None:
        """Calls back once when there is room; first come, first told."""
        self._hungry.append(announce)

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Calls back once when nothing is ongoing; at once if so now."""
        if self.ongoing:
            self._idle_callbacks.append(callback)
        else:
            callback()
