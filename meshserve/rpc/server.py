"""Internal gRPC servers: one per process, behind the mesh token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from meshserve.rpc.metrics_service import MetricsService
from meshserve.rpc.token import token_check
from meshserve.transport.server import Server
from meshserve.v1 import metrics_pb2_grpc

AddServicer = Callable[[Any], None]
"""Adds a servicer to a server, by a function of generated code."""


async def start_internal_server(
    token: str, host: str, add_servicers: Sequence[AddServicer], port: int = 0
) -> tuple[Server, str]:
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
    server = Server(token_check(token))
    for add in (lambda on: metrics_pb2_grpc.add_MetricsServiceServicer_to_server(MetricsService(), on), *add_servicers):
        add(server)
    try:
        bound = server.bind(host, port)
    except OSError as error:
        raise RuntimeError(f"{host}:{port} cannot be bound: {error}") from error
    await server.start()
    return server, f"{host}:{bound}"
