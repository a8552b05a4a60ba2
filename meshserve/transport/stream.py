"""One call on a connection, as both ends have it: messages out within the peer's windows, messages in as they come."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

import grpc.aio

from meshserve.transport.compression import TooLarge, compress, decompress
from meshserve.transport.cutter import Cutter
from meshserve.transport.frames import DATA, END_STREAM, WINDOW_UPDATE, ConnectionBroken, ErrorCode, frame, head
from meshserve.transport.headers import IDENTITY

if TYPE_CHECKING:
    from meshserve.transport.connection import Connection

log = logging.getLogger(__name__)

PREFIX_BYTES = 5
PREFIX = Struct(">BL")
"""Whether it is compressed, and the length of a message."""

WHOLE = Struct(">HBBBLBL")
"""The head of a DATA frame that holds exactly one message, and the message's prefix."""

COPY_BYTES = 1 << 16
"""A message up to this size is copied behind its head, so that both are one piece for the socket."""

RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED

Serialize = Callable[[Any], bytes]
Deserialize = Callable[[bytes], Any]


class Unusable(Exception):
    """A message could not be read, or not be written.

    Attributes:
        code: what the call ends with.
    """

    def __init__(self, message: str, code: grpc.StatusCode = grpc.StatusCode.INTERNAL) -> None:
        super().__init__(message)
        self.code = code


class Broken(Exception):
    """The call is over before its time, or its connection is gone: nothing can be written any more."""


def measure_up_to(most_bytes: int) -> Callable[[bytes, int], int]:
    """What tells a message's length, prefix and all, by its prefix; it raises `Unusable` when that is more."""

    def measure(data: bytes, at: int) -> int:
        compressed, length = PREFIX.unpack_from(data, at)
        if compressed > 1:
            raise Unusable(f"a message begins with {compressed}, which says nothing of its compression")
        if length > most_bytes:
            raise Unusable(f"Received message larger than max ({length} vs. {most_bytes})", RESOURCE_EXHAUSTED)
        return PREFIX_BYTES + int(length)

    return measure


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
        encoding: how messages are compressed that it sends.
        accepts: how those may be that come.
        on_writable: called when it takes messages again after it did not.
    """

    encoding = IDENTITY
    accepts = IDENTITY

    def __init__(
        self, connection: Connection, stream_id: int, serialize: Serialize | None, deserialize: Deserialize | None
    ) -> None:
        self.connection = connection
        self.id = stream_id
        self.window = connection.initial_window
        self._limits = connection.limits
        self._received = 0
        self._unread = 0
        self.on_writable: Callable[[], object] | None = None
        self._serialize = serialize
        self._deserialize = deserialize
        self._unsent: deque[memoryview] = deque()
        self._last: Callable[[], bytes] | None = None
        self._over = False
        self._messages = Cutter(PREFIX_BYTES, connection.measure)
        self._inbox: deque[tuple[int, bytes]] = deque()
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
            Unusable: it is larger than it may be.
        """
        if self._over:
            raise Broken("the call is over")
        body = self._serialize(message) if self._serialize is not None else message
        if len(body) > self._limits.send_bytes:
            most = self._limits.send_bytes
            raise Unusable(f"Sent message larger than max ({len(body)} vs. {most})", RESOURCE_EXHAUSTED)
        compressed = self.encoding != IDENTITY
        if compressed:
            body = compress(body, self.encoding)
        size = len(body) + PREFIX_BYTES
        connection = self.connection
        if size > COPY_BYTES or self._unsent or not connection.has_room(size, self.window):
            self._unsent.append(memoryview(PREFIX.pack(compressed, len(body))))
            if body:
                self._unsent.append(memoryview(body))
            self.flush()
            return
        self.window -= size
        connection.window -= size
        connection.write(WHOLE.pack(size >> 8, size & 0xFF, DATA, 0, self.id, compressed, len(body)) + body)

    def flush(self) -> None:
        """Sends of what waits as much as the peer's windows allow."""
        connection, unsent = self.connection, self._unsent
        connection.blocked.discard(self)
        while unsent:
            waiting = unsent[0]
            room = min(len(waiting), self.window, connection.window, connection.largest_frame)
            if room <= 0:
                connection.blocked.add(self)
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
            self._hand(*self._inbox.popleft())

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF` after the last one."""
        while not self._inbox:
            if self._input_over:
                return grpc.aio.EOF
            await self._change()
        compressed, body = self._inbox.popleft()
        self._unread -= len(body) + PREFIX_BYTES
        self._reopen()
        return self._read(compressed, body)

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
        if (fault := self._what_is_wrong()) is not None:
            raise fault

    def _what_is_wrong(self) -> Unusable | None:
        if self._fault is None and self._messages.holds:
            return Unusable("the stream ended within a message")
        return self._fault

    def arrived(self, payload: bytes, size: int) -> None:
        """Bytes of messages have come, in a frame of `size`.

        Raises:
            ConnectionBroken: more than the peer may send.
        """
        if self._input_over:
            return
        self._received += size
        if self._received > self._limits.window_bytes:
            raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "more was sent than the window of a stream takes")
        try:
            for data, begin, end in self._messages.feed(payload):
                compressed, body = data[begin], data[begin + PREFIX_BYTES : end]
                if self._receive is not None:
                    self._hand(compressed, body)
                else:
                    self._inbox.append((compressed, body))
                    self._unread += end - begin
                    self._tell()
        except Unusable as error:
            self.fail(error)
        self._reopen()

    def _reopen(self) -> None:
        """Lets the peer send as much as was read; a message that is not whole yet counts as that."""
        read = self._received - self._unread
        if read >= self._limits.window_bytes >> 1 and not self._input_over:
            self._received -= read
            self.connection.write(frame(WINDOW_UPDATE, 0, self.id, read.to_bytes(4, "big")))

    def input_over(self) -> None:
        """Nothing more will come."""
        if not self._input_over:
            self._input_over = True
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
        self.connection.blocked.discard(self)
        self._unsent.clear()
        self._last = None
        self.input_over()
        self._tell()

    def _hand(self, compressed: int, body: bytes) -> None:
        assert self._receive is not None
        if self._fault is not None:
            return
        try:
            self._receive(self._read(compressed, body))
        except Exception as error:
            log.exception("A message of %s could not be read.", self.connection)
            self.fail(Unusable(f"a message could not be read: {error!r}"))

    def _read(self, compressed: int, body: bytes) -> Any:
        """The message in what came; unpacked no sooner than somebody wants it."""
        if compressed:
            body = self._unpacked(body)
        return self._deserialize(body) if self._deserialize is not None else body

    def _unpacked(self, body: bytes) -> bytes:
        most = self._limits.receive_bytes
        try:
            return decompress(body, self.accepts, most)
        except TooLarge:
            raise Unusable(f"Received message larger than max ({most} bytes)", RESOURCE_EXHAUSTED) from None
        except ValueError as error:
            raise Unusable(str(error)) from None

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None
