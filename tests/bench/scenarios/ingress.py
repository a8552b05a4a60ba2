"""Requests from outside: HTTP by wrk, gRPC by h2load."""

from collections.abc import Callable

from bench.load import grpc_load, http_load
from bench.sample import Sample
from bench.scenario import System

# Serialised by hand, since the parent process has no protobuf: EchoRequest(message="hello"), ItemsRequest(count=100).
_ECHO_REQUEST = b"\x0a\x05hello"
_ITEMS_REQUEST = b"\x08\x64"
_ITEMS = 100

# A gRPC frame has five bytes before its message; ItemsResponse(index=1..100) takes two.
_ECHO_REPLY_BYTES = 5 + len(_ECHO_REQUEST)
_ITEMS_REPLY_BYTES = _ITEMS * (5 + 2)


def http(connections: int, path: str = "") -> Callable[[System, float], Sample]:
    """GET on keep-alive connections."""
    return lambda system, seconds: http_load(system.url(path), connections=connections, seconds=seconds)


def grpc_unary(clients: int, streams: int) -> Callable[[System, float], Sample]:
    """Unary calls of a user's service, `streams` at a time on each of `clients` connections."""
    return lambda system, seconds: grpc_load(
        system.grpc_url("Echo"),
        application=system.application,
        message=_ECHO_REQUEST,
        reply_bytes=_ECHO_REPLY_BYTES,
        clients=clients,
        streams=streams,
        seconds=seconds,
    )


def grpc_items(clients: int, streams: int) -> Callable[[System, float], Sample]:
    """Items per second of server-streaming calls with 100 items each; the latency is a whole stream's."""

    def measure(system: System, seconds: float) -> Sample:
        calls = grpc_load(
            system.grpc_url("Items"),
            application=system.application,
            message=_ITEMS_REQUEST,
            reply_bytes=_ITEMS_REPLY_BYTES,
            clients=clients,
            streams=streams,
            seconds=seconds,
        )
        return Sample(
            value=calls.value * _ITEMS,
            p50_ms=calls.p50_ms,
            p99_ms=calls.p99_ms,
            count=calls.count * _ITEMS,
            note=f"latency is that of a stream of {_ITEMS} items",
        )

    return measure
