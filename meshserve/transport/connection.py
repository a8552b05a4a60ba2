"""A connection of HTTP/2, as both ends have it: frames in, frames out, windows, headers (RFC 9113).

The windows that it opens for the peer are as wide as HTTP/2 allows, and opened again as bytes arrive: what may be in
flight is bounded by the credits of the streams above it, and a process that does not read at all stops its peer by TCP.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import hpack

from meshserve.transport.cutter import Cutter
from meshserve.transport.frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEAD_BYTES,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    PING,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionBroken,
    ErrorCode,
    content_of,
    frame,
    number_of,
    settings_frame,
    settings_of,
)
from meshserve.transport.headers import Headers
from meshserve.transport.stream import Stream

log = logging.getLogger(__name__)

FRAME_BYTES = 1 << 20
"""The largest frame that is taken."""

HEADER_BYTES = 64 << 10
"""The largest headers that are taken."""

TABLE_BYTES = 4096
"""What is remembered of headers sent before."""

REOPEN_BYTES = 1 << 29
"""What may arrive until windows are opened again."""

SILENT_S = 20
"""A machine that has said nothing for so long is asked whether it is there."""

GONE_S = 30
"""A machine that has not confirmed what was sent to it for so long is gone; its calls would hang otherwise."""


def frame_length(data: bytes, at: int) -> int:
    """The length of the frame, head and all, that begins there.

    Raises:
        ConnectionBroken: it is larger than was agreed.
    """
    high, low, _, _, _ = HEAD.unpack_from(data, at)
    length: int = high << 8 | low
    if length > FRAME_BYTES:
        raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes, {FRAME_BYTES} are the most")
    return HEAD_BYTES + length


class Connection(asyncio.Protocol):
    """See the module. What only a client or only a server does is in the subclasses.

    Attributes:
        streams: those under way, by id.
        window: bytes that the peer lets it send on all streams together.
        initial_window: the window that a new stream has.
        largest_frame: what the peer takes.
        paused: whether the socket has enough to write.
    """

    transport: Any

    def __init__(self, settings: dict[int, int]) -> None:
        self.streams: dict[int, Stream] = {}
        self.window = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self.largest_frame = DEFAULT_FRAME_BYTES
        self.paused = False
        self.closed = False
        self._settings = {INITIAL_WINDOW_SIZE: LARGEST_WINDOW, MAX_FRAME_SIZE: FRAME_BYTES, **settings}
        self._frames = Cutter(HEAD_BYTES, frame_length)
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder(max_header_list_size=HEADER_BYTES)
        self._block: tuple[int, int, bytes] | None = None
        self._received = 0

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Greets the peer."""
        self.transport = transport
        _notice_a_lost_machine(transport.get_extra_info("socket"))
        wider = (LARGEST_WINDOW - DEFAULT_WINDOW).to_bytes(4, "big")
        self.write(settings_frame(self._settings) + frame(WINDOW_UPDATE, 0, 0, wider))

    def data_received(self, data: bytes) -> None:
        """Reads what came."""
        try:
            for buffer, begin, end in self._frames.feed(data):
                _, _, kind, flags, stream_id = HEAD.unpack_from(buffer, begin)
                payload = buffer[begin + HEAD_BYTES : end]
                if kind == DATA and self._block is None:
                    self._on_data(flags, stream_id & LARGEST_WINDOW, payload)
                else:
                    self._on_frame(kind, flags, stream_id & LARGEST_WINDOW, payload)
        except ConnectionBroken as error:
            self.break_off(error.code, str(error))

    def pause_writing(self) -> None:
        """The socket has enough to write."""
        self.paused = True

    def resume_writing(self) -> None:
        """The socket takes more."""
        self.paused = False
        self._unblock()

    def connection_lost(self, error: Exception | None) -> None:
        """Ends the streams under way."""
        self.closed = True
        streams, self.streams = self.streams, {}
        reason = f"the connection broke: {error}" if error is not None else "the connection was closed by the peer"
        for stream in streams.values():
            stream.lost(reason)

    # -- out -----------------------------------------------------------------------------------------------------

    def has_room(self, size: int, window: int) -> bool:
        """Whether a message of a stream with this window can leave as one frame."""
        return size <= window and size <= self.window and size <= self.largest_frame

    def write(self, data: bytes | memoryview) -> None:
        """Writes bytes; drops them when the connection is gone, of which the streams are told."""
        if not self.closed:
            self.transport.write(data)

    def header_frames(self, stream_id: int, headers: Headers, flags: int = 0) -> bytes:
        """The frames of a list of headers; they must be written in the order in which they were made."""
        block = self._encoder.encode(headers)
        first, rest = block[: self.largest_frame], block[self.largest_frame :]
        made = [frame(HEADERS, flags | (0 if rest else END_HEADERS), stream_id, first)]
        while rest:
            piece, rest = rest[: self.largest_frame], rest[self.largest_frame :]
            made.append(frame(CONTINUATION, 0 if rest else END_HEADERS, stream_id, piece))
        return b"".join(made)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """Breaks a stream off."""
        if self.streams.pop(stream.id, None) is not None:
            self.write(frame(RST_STREAM, 0, stream.id, code.to_bytes(4, "big")))

    def say_goodbye(self, last_stream: int, code: ErrorCode, reason: str = "") -> None:
        """Tells the peer that no stream after `last_stream` is served."""
        payload = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + reason.encode()
        self.write(frame(GOAWAY, 0, 0, payload))

    def break_off(self, code: ErrorCode, reason: str) -> None:
        """Ends the connection: the peer does what it must not."""
        log.warning("A connection was broken off: %s.", reason)
        self.say_goodbye(0, code, reason)
        self.hang_up()

    def hang_up(self) -> None:
        """Closes the connection after what is written already."""
        if not self.closed:
            self.closed = True
            self.transport.close()

    # -- in ------------------------------------------------------------------------------------------------------

    def on_headers(self, stream_id: int, headers: Headers, last: bool) -> None:
        """Headers have come."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.answered(headers, last)

    def on_goodbye(self, last_stream: int, reason: str) -> None:
        """The peer serves no stream after this one."""

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._received += len(payload)
        if self._received >= REOPEN_BYTES:
            self.write(frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big")))
            self._received = 0
        stream = self.streams.get(stream_id)
        if stream is None:  # broken off from here, which the peer did not know yet
            return
        stream.received += len(payload)
        if stream.received >= REOPEN_BYTES:
            self.write(frame(WINDOW_UPDATE, 0, stream_id, stream.received.to_bytes(4, "big")))
            stream.received = 0
        stream.arrived(content_of(flags, payload) if flags & ~END_STREAM else payload)
        if flags & END_STREAM:
            stream.input_over()

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None or kind in (HEADERS, CONTINUATION):
            self._on_block(kind, flags, stream_id, payload)
        elif kind == RST_STREAM:
            code = number_of(payload, "RST_STREAM")
            stream = self.streams.pop(stream_id, None)
            if stream is not None:
                stream.reset(ErrorCode(code) if code < len(ErrorCode) else ErrorCode.INTERNAL_ERROR)
        elif kind == SETTINGS:
            if not flags & ACK:
                self._on_settings(payload)
        elif kind == PING:
            if not flags & ACK:
                self.write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            last_stream = int.from_bytes(payload[:4], "big") & LARGEST_WINDOW
            self.on_goodbye(last_stream, payload[8:].decode(errors="replace"))
        elif kind == WINDOW_UPDATE:
            self._on_window(stream_id, number_of(payload, "WINDOW_UPDATE") & LARGEST_WINDOW)
        elif kind == PUSH_PROMISE:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a push, which was not asked for")

    def _on_block(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Headers may come in several frames, with nothing between them."""
        if self._block is None and kind == HEADERS:
            self._block = (stream_id, flags, content_of(flags, payload))
        elif self._block is not None and kind == CONTINUATION and self._block[0] == stream_id:
            self._block = (stream_id, self._block[1], self._block[2] + payload)
        else:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "headers that nothing began, or that did not end")
        if len(self._block[2]) > HEADER_BYTES:
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, f"headers of more than {HEADER_BYTES} bytes")
        if not flags & END_HEADERS:
            return
        (_, first_flags, block), self._block = self._block, None
        try:
            headers = [(str(key), str(value)) for key, value in self._decoder.decode(block)]
        except (hpack.HPACKError, ValueError) as error:
            raise ConnectionBroken(ErrorCode.COMPRESSION_ERROR, f"headers that cannot be read: {error!r}") from None
        self.on_headers(stream_id, headers, bool(first_flags & END_STREAM))

    def _on_settings(self, payload: bytes) -> None:
        for key, value in settings_of(payload):
            if key == HEADER_TABLE_SIZE:
                self._encoder.header_table_size = min(value, TABLE_BYTES)
            elif key == MAX_FRAME_SIZE:
                self.largest_frame = value
            elif key == INITIAL_WINDOW_SIZE:
                for stream in self.streams.values():
                    stream.window += value - self.initial_window
                self.initial_window = value
        self.write(frame(SETTINGS, ACK, 0))
        self._unblock()

    def _on_window(self, stream_id: int, more: int) -> None:
        if stream_id == 0:
            self.window += more
            if self.window > LARGEST_WINDOW:
                raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too wide")
            self._unblock()
        elif (stream := self.streams.get(stream_id)) is not None:
            stream.window += more
            stream.unblocked()

    def _unblock(self) -> None:
        for stream in tuple(self.streams.values()):
            stream.unblocked()


def _notice_a_lost_machine(sock: socket.socket | None) -> None:
    """A process that ends closes its connections; a machine that vanishes does not. The kernel keeps watch, which a
    process that is busy answers as well as one that is not."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", SILENT_S),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", GONE_S * 1000),
    ):
        if hasattr(socket, name):  # not every system has them all
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
