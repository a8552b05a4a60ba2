"""A client that sends what no gRPC library would send."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

UNARY = "/meshserve.tests.v1.ShapesService/Unary"


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


def exchange(address: str, body: bytes | None, *, path: str = UNARY, timeout_s: float = 10.0, **headers: str) -> Answer:
    """Sends one request, ends it, and collects the answer.

    Args:
        body: None to send no data frame at all.
        headers: more of them, or others; underscores stand for hyphens.
    """
    host, _, port = address.rpartition(":")
    sent = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": address,
        "te": "trailers",
        "content-type": "application/grpc",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    answer = Answer()
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    with socket.create_connection((host, int(port)), timeout_s) as stream:
        connection.initiate_connection()
        connection.send_headers(1, list(sent.items()), end_stream=body is None)
        if body is not None:
            connection.send_data(1, body, end_stream=True)
        stream.sendall(connection.data_to_send())
        while not answer.ended and (data := stream.recv(65536)):
            _fold(answer, connection.receive_data(data), connection)
            stream.sendall(connection.data_to_send())
    return answer


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
