"""Internal gRPC servers: one per process, behind the mesh token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc.aio

from meshserve.rpc.metrics_service import MetricsService
from meshserve.rpc.token import TokenInterceptor
from meshserve.settings import MAX_MESSAGE_BYTES
from meshserve.v1 import metrics_pb2_grpc

INTERNAL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A peer that vanished without a FIN is noticed within 30 s; calls on it would hang otherwise.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # Two processes must never share a port by accident.
    ("grpc.so_reuseport", 0),
)

AddServicer = Callable[[grpc.aio.Server], None]


async def start_internal_server(
    token: str, host: str, add_servicers: Sequence[AddServicer], port: int = 0
) -> tuple[grpc.aio.Server, str]:
    """Starts a server for the mesh's own services; to be awaited on the I/O thread.

    Args:
        token: the mesh token.
        host: the address to bind: loopback on a single node, the node's address on a cluster.
        add_servicers: each adds one servicer.
        port: 0 for any free one.

    Returns:
        The running server, and its address as `host:port`.

    Raises:
        RuntimeError: the port cannot be bound.
    """
    server = grpc.aio.server(interceptors=[TokenInterceptor(token)], options=INTERNAL_OPTIONS)
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(MetricsService(), server)
    for add in add_servicers:
        add(server)
    bound = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    return server, f"{host}:{bound}"
