"""Internal gRPC channels: what a process uses to reach another one of the mesh."""

from __future__ import annotations

import grpc.aio

from meshserve.rpc.server import INTERNAL_OPTIONS

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    *(option for option in INTERNAL_OPTIONS if option[0] != "grpc.so_reuseport"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A proxy for the outside world must not be asked for neighbours on the same machine.
    ("grpc.enable_http_proxy", 0),
)


def internal_channel(address: str) -> grpc.aio.Channel:
    """Opens a channel to an internal server; to be called on the I/O thread."""
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
