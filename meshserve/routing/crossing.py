"""The way from any thread to the I/O thread, for everything that handles do."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.mailbox import Mailbox

_mailbox: Mailbox[tuple[Any, ...]] | None = None


def to_io(function: Callable[..., object], *args: Any) -> None:
    """Calls a function on the I/O thread soon; calls posted by one thread keep their order."""
    if _mailbox is None:
        _open()
    assert _mailbox is not None
    _mailbox.post((function, *args))


def _open() -> None:
    global _mailbox
    _mailbox = Mailbox(io_thread().loop, _apply)


def _apply(mail: tuple[Any, ...]) -> None:
    mail[0](*mail[1:])


def _forget_after_fork() -> None:
    global _mailbox
    _mailbox = None


os.register_at_fork(after_in_child=_forget_after_fork)
