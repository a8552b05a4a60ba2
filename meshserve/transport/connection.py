"""A connection of HTTP/2, as both ends have it: frames in, frames out, windows, headers (RFC 9113).

The window that it opens for all streams of the peer together is as wide as HTTP/2 allows, and opened again as bytes
arrive: what may wait is bounded for each stream, so that one that nobody reads keeps no other waiting.
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
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    PADDED,
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
from meshserve.transport.headers import Headers, block_of
from meshserve.transport.limits import TRUSTED, Limits
from meshserve.transport.stream import Stream, measure_up_to

log = logging.getLogger(__name__)

FRAME_BYTES = 1 << 20
"""The largest frame that is taken."""

UNREAD_ANSWERS = 1000
"""Pings and settings that are answered while the peer reads nothing."""

REMEMBERED_BLOCKS = 64
REMEMBERED_BYTES = 512
"""How many blocks of headers a connection remembers, and of what size."""

TOGETHER_BYTES = 1 << 16
"""What is written in one step of the loop leaves together up to this."""

REOPEN_BYTES = 1 << 29
"""What may arrive until windows are opened again."""


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
        blocked: those with something to send that wait for the peer's windows.
        measure: tells the lengths of messages.
        window: bytes that the peer lets it send on all streams together.
        initial_window: the window that a new stream has.
        largest_frame: what the peer takes.
        paused: whether the socket has enough to write.
        closed: whether nothing can be written any more.
        wrote: whether something was written that answers no question of the peer; whoever asks sets it back.
    """

    transport: Any

    def __init__(self, settings: dict[int, int], limits: Limits = TRUSTED) -> None:
        self.limits = limits
        self.streams: dict[int, Stream] = {}
        self.blocked: set[Stream] = set()
        self.measure = measure_up_to(limits.receive_bytes)
        self.window = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self.largest_frame = DEFAULT_FRAME_BYTES
        self.paused = False
        self.closed = False
        self.wrote = False
        self._settings = {INITIAL_WINDOW_SIZE: limits.window_bytes, MAX_FRAME_SIZE: FRAME_BYTES, **settings}
        self._frames = Cutter(HEAD_BYTES, frame_length)
        self._decoder = hpack.Decoder(max_header_list_size=4 * limits.header_bytes)
        self._block: tuple[int, int, bytes] | None = None
        self._received = 0
        self._unread_answers = 0
        self._out: list[bytes | memoryview] = []
        self._out_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._remembered: dict[bytes, Headers] = {}

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Greets the peer."""
        self.transport = transport
        _set_up(transport.get_extra_info("socket"), self.limits.lost_after_s)
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
        self.blocked.clear()
        streams, self.streams = self.streams, {}
        reason = f"the connection broke: {error}" if error is not None else "the connection was closed by the peer"
        for stream in streams.values():
            stream.lost(reason)

    # -- out -----------------------------------------------------------------------------------------------------

    def has_room(self, size: int, window: int) -> bool:
        """Whether a message of a stream with this window can leave as one frame."""
        return size <= window and size <= self.window and size <= self.largest_frame

    def write(self, data: bytes | memoryview) -> None:
        """Writes bytes, with all others of this step of the loop; drops them when the connection is gone, of which the
        streams are told."""
        if self.closed:
            return
        self.wrote = True
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > TOGETHER_BYTES:
            self._write_out()
        elif len(self._out) == 1:
            self._loop.call_soon(self._write_out)

    def _write_out(self) -> None:
        out, self._out, self._out_bytes = self._out, [], 0
        if out and not self.transport.is_closing():
            self.transport.writelines(out)

    def header_frames(self, stream_id: int, headers: Headers, flags: int = 0) -> bytes:
        """The frames of a list of headers."""
        block = block_of(headers)
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
        """Ends the connection: the peer does what it must not. One that does not read is not waited for."""
        log.info("A connection was broken off: %s.", reason)
        self.say_goodbye(0, code, reason)
        self.hang_up()
        if self.paused:
            self.transport.abort()

    def hang_up(self) -> None:
        """Closes the connection after what is written already."""
        if not self.closed:
            self.closed = True
            self._write_out()
            self.transport.close()

    # -- in ------------------------------------------------------------------------------------------------------

    def on_headers(self, stream_id: int, headers: Headers, last: bool) -> None:
        """Headers have come."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.answered(headers, last)

    def on_ping(self) -> None:
        """The peer asks whether somebody is there, and is answered."""

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
        stream.arrived(content_of(flags & PADDED, payload) if flags & PADDED else payload, len(payload))
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
                self.on_ping()
                self._answer(frame(PING, ACK, 0, payload))
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
        if len(self._block[2]) > 4 * self.limits.header_bytes:
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, f"headers of {len(self._block[2])} bytes and more")
        if not flags & END_HEADERS:
            return
        (_, first_flags, block), self._block = self._block, None
        self.on_headers(stream_id, self._decoded(block), bool(first_flags & END_STREAM))

    def _decoded(self, block: bytes) -> Headers:
        """The headers in a block. One that adds nothing to the table of those sent before means the same when it comes
        again, until another adds something: most calls of a client begin alike."""
        known = self._remembered.get(block)
        if known is not None:
            return known
        newest = self._newest_entry()
        try:
            headers = [(str(key), str(value)) for key, value in self._decoder.decode(block)]
        except (hpack.HPACKError, ValueError) as error:
            raise ConnectionBroken(ErrorCode.COMPRESSION_ERROR, f"headers that cannot be read: {error!r}") from None
        if self._newest_entry() is not newest or len(self._remembered) >= REMEMBERED_BLOCKS:
            self._remembered.clear()
        elif len(block) <= REMEMBERED_BYTES:
            self._remembered[block] = headers
        return headers

    def _newest_entry(self) -> object:
        entries = self._decoder.header_table.dynamic_entries
        return entries[0] if entries else None

    def _on_settings(self, payload: bytes) -> None:
        for key, value in settings_of(payload):
            if key == MAX_FRAME_SIZE:
                self.largest_frame = value
            elif key == INITIAL_WINDOW_SIZE:
                for stream in self.streams.values():
                    stream.window += value - self.initial_window
                    if stream.window > LARGEST_WINDOW:
                        raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "settings make a window too wide")
                self.initial_window = value
        self._answer(frame(SETTINGS, ACK, 0))
        self._unblock()

    def _answer(self, data: bytes) -> None:
        self._unread_answers = self._unread_answers + 1 if self.paused else 0
        if self._unread_answers > UNREAD_ANSWERS:
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, "it asks, and does not read the answers")
        wrote = self.wrote
        self.write(data)
        self.wrote = wrote

    def _on_window(self, stream_id: int, more: int) -> None:
        if stream_id == 0:
            self.window += more
            if (code := _wrong(more, self.window)) is not None:
                raise ConnectionBroken(code, f"the connection's window was made {self.window} by {more}")
            for blocked in tuple(self.blocked):
                blocked.unblocked()
        elif (stream := self.streams.get(stream_id)) is not None:
            stream.window += more
            if (code := _wrong(more, stream.window)) is not None:
                self.reset(stream, code)
                stream.reset(code)
            else:
                stream.unblocked()

    def _unblock(self) -> None:
        for stream in tuple(self.streams.values()):
            stream.unblocked()


def _wrong(more: int, window: int) -> ErrorCode | None:
    """What is wrong with a window that was widened (RFC 9113, section 6.9); None when nothing is."""
    if not more:
        return ErrorCode.PROTOCOL_ERROR
    return ErrorCode.FLOW_CONTROL_ERROR if window > LARGEST_WINDOW else None


def _set_up(sock: socket.socket | None, lost_after_s: int) -> None:
    """Small messages leave at once, which not every loop sees to by itself. And a process that ends closes its
    connections, but a machine that vanishes does not: the kernel keeps watch, which a process that is busy answers as
    well as one that is not."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not lost_after_s:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", lost_after_s // 2),
        ("TCP_KEEPINTVL", lost_after_s // 4),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", lost_after_s * 1000),
    ):
        if hasattr(socket, name):  # not every system has them all
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
