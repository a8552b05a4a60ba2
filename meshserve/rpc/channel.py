"""Internal gRPC channels: what a process uses to steer another one of the mesh, or to hear of it.

Calls between deployments do not come this way but by the streams of `meshserve.transport`.
"""

from __future__ import annotations

import grpc.aio

from meshserve.settings import MAX_MESSAGE_BYTES

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A peer that vanished without a FIN is noticed; calls on it would hang otherwise. A process that is there answers
    # unless its user's code holds Python's lock for that long.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 60_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A proxy for the outside world must not be asked for neighbours on the same machine.
    ("grpc.enable_http_proxy", 0),
)


def internal_channel(address: str) -> grpc.aio.Channel:
    """Opens a channel to an internal server; to be called on the I/O thread."""
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
