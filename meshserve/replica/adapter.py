"""How one call meets user code: an adapter per encoding, behind one interface.

The door accepts a call on the I/O thread and hands it to the user's loop as an `Invocation`. The adapter of the call's
encoding decodes the arguments, runs the user's code, and gives back encoded items or a result. Adding a way to call
a replica is adding an adapter to the table in `replica.user_code`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from meshserve.model.call import Call, Finish, Payload


class Invocation(Protocol):
    """A call that was accepted, as the user's loop sees it. Its methods are for the user's loop unless said otherwise.

    Attributes:
        call: the call; its deadline is on this process's monotonic clock.
        finish: status and trailers to send with the end; None for none. An adapter sets it.
        verb: the method of an HTTP request, for the log. An adapter sets it.
        status: of its response. An adapter sets it.
    """

    call: Call
    finish: Finish | None
    verb: str
    status: int

    def inputs(self) -> AsyncIterator[Payload]:
        """The input items of a call that streams in; ends when the caller ended them or the call is over."""

    async def send(self, item: Payload) -> None:
        """Sends an output item; waits while the consumer has no room.

        Raises:
            asyncio.CancelledError: the call was cancelled.
        """

    def try_send(self, item: Payload) -> bool:
        """Sends an output item if the consumer has room; False to use `send`."""

    def send_from_thread(self, item: Payload) -> bool:
        """Sends an output item from a worker thread, waiting for room; False when the call is over."""


class Adapter(Protocol):
    """Runs calls of one encoding."""

    async def run(self, invocation: Invocation) -> Payload | None:
        """Runs one call in its own task on the user's loop, inside the call's context.

        Returns:
            The result, or the last item of a call that streams out; None when its items were sent, or there are none.

        Raises:
            BaseException: whatever user code raises; the door turns it into a failure. CancelledError
                is raised in it when the call is cancelled.
        """
