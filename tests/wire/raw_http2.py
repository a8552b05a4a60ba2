"""A client that sends what no gRPC library would send."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

UNARY = "/meshserve.tests.v1.ShapesService/Unary"
_CONFIGURATION = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")


@dataclass
class Answer:
    """What came back: all headers and trailers, the body, and whether the stream was reset or never ended."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: bool = False
    ended: bool = False

    @property
    def status(self) -> int:
        """The gRPC code; -1 when there is none."""
        return int(self.headers.get("grpc-status", -1))


def framed(message: bytes, *, size: int | None = None, flag: int = 0) -> bytes:
    """A message as gRPC frames it, or with a size that is a lie."""
    return bytes([flag]) + (len(message) if size is None else size).to_bytes(4, "big") + message


def request_headers(address: str, path: str = UNARY, **headers: str | None) -> list[tuple[str, str]]:
    """What a request begins with; underscores stand for hyphens, and None takes a header away."""
    sent: dict[str, str | None] = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": address,
        "te": "trailers",
        "content-type": "application/grpc",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return [(name, value) for name, value in sent.items() if value is not None]


def exchange(
    address: str, body: bytes | None, *, path: str = UNARY, timeout_s: float = 10.0, **headers: str | None
) -> Answer:
    """Sends one request, ends it, and collects the answer.

    Args:
        body: None to send no data frame at all.
        headers: see `request_headers`.
    """
    host, _, port = address.rpartition(":")
    answer = Answer()
    connection = h2.connection.H2Connection(_CONFIGURATION)
    with socket.create_connection((host, int(port)), timeout_s) as stream:
        connection.initiate_connection()
        connection.send_headers(1, request_headers(address, path, **headers), end_stream=body is None)
        if body is not None:
            connection.send_data(1, body, end_stream=True)
        stream.sendall(connection.data_to_send())
        while not answer.ended and (data := stream.recv(65536)):
            _fold(answer, connection.receive_data(data), connection)
            stream.sendall(connection.data_to_send())
    return answer


def answered_pings(address: str, pings: int, timeout_s: float = 10.0) -> int:
    """Pings a server without ever making a call, each time it has answered; how often it did before it hung up."""
    host, _, port = address.rpartition(":")
    connection = h2.connection.H2Connection(_CONFIGURATION)
    answered = 0
    with socket.create_connection((host, int(port)), timeout_s) as stream:
        connection.initiate_connection()
        connection.ping(answered.to_bytes(8))
        stream.sendall(connection.data_to_send())
        while answered < pings and (data := stream.recv(65536)):
            events = connection.receive_data(data)
            acknowledged = sum(isinstance(event, h2.events.PingAckReceived) for event in events)
            answered += acknowledged
            if any(isinstance(event, h2.events.ConnectionTerminated) for event in events):
                break
            if acknowledged:
                connection.ping(answered.to_bytes(8))
            stream.sendall(connection.data_to_send())
    return answered


class OneWay:
    """A connection of a client that sends and reads nothing; a context manager, which breaks it off.

    Args:
        address: of the server.
        window_bytes: how much of each answer the server may send.
    """

    def __init__(self, address: str, *, window_bytes: int = 65535) -> None:
        self._address = address
        host, _, port = address.rpartition(":")
        self._stream = socket.create_connection((host, int(port)), 10.0)
        self._connection = h2.connection.H2Connection(_CONFIGURATION)
        self._connection.local_settings[h2.settings.SettingCodes.INITIAL_WINDOW_SIZE] = window_bytes
        self._connection.initiate_connection()

    def __enter__(self) -> OneWay:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stream.close()

    def open(self, body: bytes = b"", *, path: str = UNARY, end: bool = True) -> int:
        """Begins a request, and ends it or not; returns its stream."""
        stream = self._connection.get_next_available_stream_id()
        self._connection.send_headers(stream, request_headers(self._address, path))
        self._connection.send_data(stream, body, end_stream=end)
        return stream

    def reset(self, stream: int) -> None:
        """Cancels a request."""
        self._connection.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)

    def send(self) -> None:
        """Sends all of it."""
        self._stream.sendall(self._connection.data_to_send())


def _fold(answer: Answer, events: list[h2.events.Event], connection: h2.connection.H2Connection) -> None:
    for event in events:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                answer.headers |= dict(event.headers)
            case h2.events.DataReceived():
                answer.body += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, 1)
            case h2.events.StreamReset():
                answer.reset = answer.ended = True
            case h2.events.StreamEnded():
                answer.ended = True
