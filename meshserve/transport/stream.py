"""One call on a connection, as both ends have it: messages out within the peer's windows, messages in as they come."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

import grpc.aio

from meshserve.transport.cutter import Cutter
from meshserve.transport.frames import DATA, END_STREAM, ErrorCode, frame, head

if TYPE_CHECKING:
    from meshserve.transport.connection import Connection

log = logging.getLogger(__name__)

PREFIX_BYTES = 5
PREFIX = Struct(">BL")
"""Whether it is compressed, and the length of a message."""

WHOLE = Struct(">HBBBLBL")
"""The head of a DATA frame that holds exactly one message, and the message's prefix."""

LARGEST_MESSAGE_BYTES = (1 << 31) - 1
"""As any other implementation of gRPC has it at most."""

COPY_BYTES = 1 << 16
"""A message up to this size is copied behind its head, so that both are one piece for the socket."""

Serialize = Callable[[Any], bytes]
Deserialize = Callable[[bytes], Any]


class Unusable(Exception):
    """A message could not be read, or not be written."""


class Broken(Exception):
    """The call is over before its time, or its connection is gone: nothing can be written any more."""


def message_length(data: bytes, at: int) -> int:
    """The length of the message, prefix and all, that begins there.

    Raises:
        Unusable: it is compressed, or too large.
    """
    compressed, length = PREFIX.unpack_from(data, at)
    if compressed:
        raise Unusable("a message is compressed, and nobody said how")
    if length > LARGEST_MESSAGE_BYTES:
        raise Unusable(f"a message of {length} bytes is larger than the {LARGEST_MESSAGE_BYTES} that gRPC carries")
    return PREFIX_BYTES + int(length)


class Stream:
    """See the module. Lives on its connection's loop.

    Args:
        connection: carries it.
        stream_id: of HTTP/2.
        serialize: makes the bytes of a message to send.
        deserialize: makes a message of the bytes that came.

    Attributes:
        id: of HTTP/2.
        window: bytes that the peer lets it send.
        on_writable: called when it takes messages again after it did not.
    """

    def __init__(
        self, connection: Connection, stream_id: int, serialize: Serialize | None, deserialize: Deserialize | None
    ) -> None:
        self.connection = connection
        self.id = stream_id
        self.window = connection.initial_window
        self.received = 0
        self.on_writable: Callable[[], object] | None = None
        self._serialize = serialize
        self._deserialize = deserialize
        self._unsent: deque[memoryview] = deque()
        self._last: Callable[[], bytes] | None = None
        self._over = False
        self._messages = Cutter(PREFIX_BYTES, message_length)
        self._inbox: deque[bytes] = deque()
        self._receive: Callable[[Any], object] | None = None
        self._input_over = False
        self._fault: Unusable | None = None
        self._changed: asyncio.Future[None] | None = None

    # -- out -----------------------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether another message would leave at once."""
        return not (self._unsent or self.connection.paused or self._over)

    def send(self, message: Any) -> None:
        """Writes a message; what the peer's windows do not take waits here, without a bound: see `writable`.

        Raises:
            Broken: the call is over.
        """
        if self._over:
            raise Broken("the call is over")
        body = self._serialize(message) if self._serialize is not None else message
        size = len(body) + PREFIX_BYTES
        connection = self.connection
        if size > COPY_BYTES or self._unsent or not connection.has_room(size, self.window):
            self._unsent.append(memoryview(PREFIX.pack(0, len(body))))
            if body:
                self._unsent.append(memoryview(body))
            self.flush()
            return
        self.window -= size
        connection.window -= size
        connection.write(WHOLE.pack(size >> 8, size & 0xFF, DATA, 0, self.id, 0, len(body)) + body)

    def flush(self) -> None:
        """Sends of what waits as much as the peer's windows allow."""
        connection, unsent = self.connection, self._unsent
        while unsent:
            waiting = unsent[0]
            room = min(len(waiting), self.window, connection.window, connection.largest_frame)
            if room <= 0:
                return
            connection.write(head(room, DATA, 0, self.id))
            connection.write(waiting[:room])
            self.window -= room
            connection.window -= room
            if room == len(waiting):
                unsent.popleft()
            else:
                unsent[0] = waiting[room:]
        if self._last is not None:
            last, self._last = self._last, None
            connection.write(last())
            self.finished()

    def unblocked(self) -> None:
        """The peer's windows, or the connection, take more."""
        self.flush()
        if self.writable:
            if self.on_writable is not None:
                self.on_writable()
            self._tell()

    async def write(self, message: Any) -> None:
        """Writes a message and waits until the stream takes another.

        Raises:
            Broken: the call is over.
        """
        self.send(message)
        while not self.writable:
            if self._over:
                raise Broken("the call is over")
            await self._change()

    def send_last(self, make: Callable[[], bytes]) -> None:
        """Sends the frames that `make` gives after everything that waits, and nothing after them."""
        self._last = make
        self.flush()
        self._over = True

    def end_input(self) -> None:
        """Says that no more messages follow; of a client, whose call goes on."""
        self.send_last(lambda: frame(DATA, END_STREAM, self.id))

    def finished(self) -> None:
        """The last frame is written."""

    # -- in ------------------------------------------------------------------------------------------------------

    def deliver(self, receive: Callable[[Any], object]) -> None:
        """Gives messages to a callback from now on, in the loop's own step in which they came; `read` gives no more.

        What the callback raises ends the call: see `ended`.
        """
        self._receive = receive
        while self._inbox:
            self._hand(self._inbox.popleft())

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF` after the last one."""
        while not self._inbox:
            if self._input_over:
                return grpc.aio.EOF
            await self._change()
        return self._read(self._inbox.popleft())

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._messages_left()

    async def _messages_left(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def ended(self) -> None:
        """Waits until the peer sends nothing more.

        Raises:
            Unusable: a message could not be read or written; what its receiver raised counts as that.
        """
        while not self._input_over:
            await self._change()
        if self._fault is not None:
            raise self._fault

    def arrived(self, payload: bytes) -> None:
        """Bytes of messages have come."""
        if self._input_over:
            return
        try:
            for data, begin, end in self._messages.feed(payload):
                body = data[begin + PREFIX_BYTES : end]
                if self._receive is not None:
                    self._hand(body)
                else:
                    self._inbox.append(body)
                    self._tell()
        except Unusable as error:
            self.fail(error)

    def input_over(self) -> None:
        """Nothing more will come."""
        if not self._input_over:
            self._input_over = True
            if self._messages.holds and self._fault is None:
                self._fault = Unusable("the stream ended within a message")
            self._tell()

    def fail(self, error: Unusable) -> None:
        """Ends it for a message that could not be read or written."""
        self._fault = error
        self.input_over()

    def lost(self, reason: str) -> None:
        """The connection is gone."""
        self.gone()

    def reset(self, code: ErrorCode) -> None:
        """The peer has broken the call off."""
        self.gone()

    def answered(self, headers: list[tuple[str, str]], last: bool) -> None:
        """The peer has sent headers after those that began the call."""
        if last:
            self.input_over()

    def gone(self) -> None:
        """Nothing can be written or will come any more."""
        self._over = True
        self._unsent.clear()
        self._last = None
        self.input_over()
        self._tell()

    def _hand(self, body: bytes) -> None:
        assert self._receive is not None
        if self._fault is not None:
            return
        try:
            self._receive(self._read(body))
        except Exception as error:
            log.exception("A message of %s could not be read.", self.connection)
            self.fail(Unusable(f"a message could not be read: {error!r}"))

    def _read(self, body: bytes) -> Any:
        return self._deserialize(body) if self._deserialize is not None else body

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None
