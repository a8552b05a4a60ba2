"""The client's end: a connection to one process, with which generated stubs work as with a channel of gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from meshserve.transport.connection import Connection
from meshserve.transport.frames import ENABLE_PUSH, PREFACE, ErrorCode
from meshserve.transport.headers import Headers, Metadata, Status, request_headers, status_from
from meshserve.transport.stream import Deserialize, Serialize, Stream

REFUSED = Status(grpc.StatusCode.UNAVAILABLE, "the peer is going away")

_RESETS = {
    ErrorCode.NO_ERROR: grpc.StatusCode.INTERNAL,
    ErrorCode.REFUSED_STREAM: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.CANCEL: grpc.StatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: grpc.StatusCode.PERMISSION_DENIED,
}
"""What a stream's end without a status means (PROTOCOL-HTTP2.md, "Errors"); INTERNAL else."""


async def connect(address: str) -> Channel:
    """Connects to a server; to be awaited on the loop where the connection is to live.

    Args:
        address: `host:port`.

    Raises:
        OSError: nobody answers there.
    """
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_connection(lambda: Channel(address), host.strip("[]"), int(port))
    return channel


class Channel(Connection):
    """A connection to a server; see `connect`. It does not connect again when it breaks.

    Args:
        address: of the server.
    """

    def __init__(self, address: str) -> None:
        super().__init__({ENABLE_PUSH: 0})
        self._authority = address
        self._next_id = 1
        self._leaving = False

    def connection_made(self, transport: Any) -> None:
        """Greets the server."""
        transport.write(PREFACE)
        super().connection_made(transport)

    def stream_stream(
        self,
        path: str,
        request_serializer: Serialize | None = None,
        response_deserializer: Deserialize | None = None,
        _registered_method: bool | None = None,
    ) -> Method:
        """What generated stubs ask a channel for."""
        return Method(self, path, request_serializer, response_deserializer)

    # On the wire calls of all kinds look alike; each is had as a stream here.
    unary_unary = unary_stream = stream_unary = stream_stream

    def begin(
        self, path: str, metadata: Metadata, serialize: Serialize | None, deserialize: Deserialize | None
    ) -> ClientCall:
        """Begins a call."""
        call = ClientCall(self, self._next_id, serialize, deserialize)
        if self.closed or self._leaving:
            call.end_with(REFUSED)
            return call
        self._next_id += 2
        self.streams[call.id] = call
        self.write(self.header_frames(call.id, request_headers(path, self._authority, metadata)))
        return call

    def on_goodbye(self, last_stream: int, reason: str) -> None:
        """Streams that the server has not seen end; the others go on."""
        self._leaving = True
        for stream in [one for one in self.streams.values() if one.id > last_stream]:
            del self.streams[stream.id]
            stream.lost(f"the peer is going away {reason}".rstrip())

    def close(self) -> None:
        """Cancels the calls under way and ends the connection."""
        for stream in tuple(self.streams.values()):
            self.reset(stream, ErrorCode.CANCEL)
            stream.lost("the connection was closed from here")
        if not self.closed:
            self.say_goodbye(0, ErrorCode.NO_ERROR)
            self.hang_up()


class Method:
    """A method of a service, on one channel; calling it begins a call."""

    def __init__(
        self, channel: Channel, path: str, serialize: Serialize | None, deserialize: Deserialize | None
    ) -> None:
        self._begin = channel.begin
        self._path = path
        self._serialize = serialize
        self._deserialize = deserialize

    def __call__(self, metadata: Metadata = ()) -> ClientCall:
        """Begins a call with this metadata."""
        return self._begin(self._path, metadata, self._serialize, self._deserialize)


class ClientCall(Stream):
    """A call to a server."""

    _status: Status | None = None

    async def status(self) -> Status:
        """Waits for the end, and gives its status. Messages that nobody reads are dropped."""
        while self._status is None:
            await self._change()
        return self._status

    def end_with(self, status: Status, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Ends it with a status; tells the server if that does not know."""
        if self._status is None:
            self._status = status
            self.connection.reset(self, code)
            self.gone()

    def answered(self, headers: Headers, last: bool) -> None:
        """See `Stream`; an answer that is none of gRPC's has no status in its last headers."""
        if last:
            self.connection.streams.pop(self.id, None)
            self.input_over()
            self.end_with(_understood(headers))

    def input_over(self) -> None:
        """See `Stream`."""
        super().input_over()
        if (fault := self._what_is_wrong()) is not None:
            self.end_with(Status(fault.code, str(fault)))

    def lost(self, reason: str) -> None:
        """See `Stream`."""
        self.end_with(Status(grpc.StatusCode.UNAVAILABLE, reason))

    def reset(self, code: ErrorCode) -> None:
        """See `Stream`."""
        found = _RESETS.get(code, grpc.StatusCode.INTERNAL)
        self.end_with(Status(found, f"the peer broke the call off: {code.name}"))


def _understood(headers: Headers) -> Status:
    try:
        return status_from(headers)
    except ValueError as error:
        return Status(grpc.StatusCode.INTERNAL, str(error))
