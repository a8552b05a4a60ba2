"""Crossing from any thread to a loop, at the price of one wake-up per batch.

`call_soon_threadsafe` costs a system call and a wake-up of the other thread. A mailbox pays it once for everything that
was posted until the other side looks: the first item of a batch wakes the loop, the rest ride along. No timer is
involved: an item posted to an idle loop is delivered as fast as the loop wakes.
"""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Delivers posted items, in order, to `receive` on `loop`.

    Args:
        loop: where `receive` runs.
        receive: called once per item; must not raise.
    """

    __slots__ = ("_armed", "_context", "_items", "_loop", "_receive")

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[T], object]) -> None:
        self._loop = loop
        self._receive = receive
        self._items: deque[T] = deque()
        self._armed = False
        self._context = Context()

    def post(self, item: T) -> None:
        """Hands over an item from any thread. Items posted to a closed loop are dropped."""
        self._items.append(item)
        # Order matters: append before looking at the flag, while the loop clears the flag before it
        # empties the queue. Whichever way the two threads interleave, a queued item has a wake-up behind it.
        if not self._armed:
            self._armed = True
            if _get_running_loop() is self._loop:
                self._loop.call_soon(self._drain, context=self._context)
                return
            try:
                self._loop.call_soon_threadsafe(self._drain, context=self._context)
            except RuntimeError:  # the loop is closed: its process or thread is ending
                self._items.clear()

    def _drain(self) -> None:
        self._armed = False
        items, receive = self._items, self._receive
        try:
            while items:
                receive(items.popleft())
        except BaseException:
            # A bug in one delivery must not strand the ones behind it; the loop reports what was raised.
            self._loop.call_soon(self._drain)
            raise
