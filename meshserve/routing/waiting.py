"""Waiting for something that happens on the I/O thread: from any event loop, or from a plain thread.

Waiters of one event loop are woken together through that loop's mailbox, so that a message that completes fifty calls
costs one wake-up of the loop that awaits them.
"""

from __future__ import annotations

import asyncio
import threading
from weakref import WeakKeyDictionary

from meshserve.rpc.mailbox import Mailbox

_mailboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox[asyncio.Future[None]]] = WeakKeyDictionary()


_latest: tuple[asyncio.AbstractEventLoop | None, Mailbox[asyncio.Future[None]] | None] = (None, None)
"""The loop that waited last, in most processes the only one; its mailbox is found at a third of the price."""


def _mailbox(loop: asyncio.AbstractEventLoop) -> Mailbox[asyncio.Future[None]]:
    global _latest
    latest, mailbox = _latest
    if latest is not loop or mailbox is None:
        mailbox = _mailboxes.get(loop)
        if mailbox is None:
            mailbox = _mailboxes[loop] = Mailbox(loop, _wake)
        _latest = (loop, mailbox)
    return mailbox


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


Waiter = tuple[Mailbox[asyncio.Future[None]], asyncio.Future[None]] | threading.Event


class Waitable:
    """Something to wait for, again and again.

    Look at the state, register, look again, wait: whoever changes the state does so before it calls `wake`, so a
    change between the two looks is seen by the second one, and no lock is needed.
    """

    # On the class, not in `__init__`: one is made per call, and most are awaited once or never.
    _waiters: list[Waiter] | None = None

    def wake(self) -> None:
        """Wakes everybody who waits; from any thread."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if isinstance(waiter, tuple):
                waiter[0].post(waiter[1])
            else:
                waiter.set()

    def wait_async(self) -> asyncio.Future[None]:
        """Registers the current task; look once more before awaiting what it returns."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._register((_mailbox(loop), future))
        return future

    def wait_sync(self) -> threading.Event:
        """Registers the current thread; look once more before waiting for what it returns."""
        event = threading.Event()
        self._register(event)
        return event

    def _register(self, waiter: Waiter) -> None:
        if self._waiters is None:
            self._waiters = [waiter]
        else:
            self._waiters.append(waiter)
