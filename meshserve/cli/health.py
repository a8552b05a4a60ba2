"""`meshserve health`: whether a gRPC server, one of its services or an application serves."""

from __future__ import annotations

from typing import Any

import click
import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshserve.cli.endpoint_flags import Server, on_server

UNREACHABLE, FAILED, NOT_SERVING = 2, 3, 4
"""Exit codes, those of grpc_health_probe."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_name_of = health_pb2.HealthCheckResponse.ServingStatus.Name


@click.command()
@on_server
@click.argument("name", default="")
@click.option("--all", "every", is_flag=True, help="Of every application and service.")
@click.option("--watch", is_flag=True, help="Print every change, until interrupted.")
async def health(server: Server, name: str, every: bool, watch: bool) -> int:
    """Prints the health of a server, or of the application or service NAME.

    Ends with exit code 0 when it serves, 4 when it does not, 2 when nobody answers, 3 when the server refuses to tell.
    """
    stub: Any = health_pb2_grpc.HealthStub(server.channel)
    asked = {"timeout": server.timeout_s, "metadata": server.metadata}
    try:
        if watch:
            async for update in stub.Watch(health_pb2.HealthCheckRequest(service=name), **asked):
                click.echo(_name_of(update.status))
            return 0
        if every:
            return await _list(stub, asked)
        status = (await stub.Check(health_pb2.HealthCheckRequest(service=name), **asked)).status
    except grpc.aio.AioRpcError as error:
        click.echo(f"Error: {error.details()} ({error.code().name})", err=True)
        away = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        return UNREACHABLE if away else FAILED
    click.echo(_name_of(status))
    return 0 if status == _SERVING else NOT_SERVING


async def _list(stub: Any, asked: dict[str, Any]) -> int:
    statuses = (await stub.List(health_pb2.HealthListRequest(), **asked)).statuses  # type: ignore[attr-defined]
    for name, found in sorted(statuses.items()):
        click.echo(f"{_name_of(found.status)}  {name or '(the whole server)'}")
    return 0 if all(found.status == _SERVING for found in statuses.values()) else NOT_SERVING
