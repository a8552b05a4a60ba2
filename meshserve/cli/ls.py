"""`meshserve ls`: what a gRPC server serves, as it describes itself."""

from __future__ import annotations

from typing import Any

import click
from google.protobuf.descriptor import FieldDescriptor

from meshserve.cli.endpoint_flags import Server, on_server
from meshserve.client.reflection import NotDescribed, Reflection
from meshserve.v1.application_pb2 import ListApplicationsRequest
from meshserve.v1.application_pb2_grpc import ApplicationServiceStub


@click.command()
@on_server
@click.argument("symbol", required=False)
@click.option("-l", "long", is_flag=True, help="With the methods of every service.")
@click.option("--applications", is_flag=True, help="The applications instead: values for -A.")
async def ls(server: Server, symbol: str | None, long: bool, applications: bool) -> int:
    """Lists the services of a server, the methods of a service, or the fields of a message.

    A service may be named by as much of its end as is clear, a message by its full name.
    """
    if applications:
        stub: Any = ApplicationServiceStub(server.channel)
        asked = ListApplicationsRequest()
        found = await stub.ListApplications(asked, timeout=server.timeout_s, metadata=server.metadata)
        for name in found.application_names:
            click.echo(name)
        return 0
    reflection = Reflection(server.channel, server.metadata, server.timeout_s)
    if symbol is not None:
        await _describe(reflection, symbol)
        return 0
    for name in await reflection.services():
        click.echo(name)
        if long:
            _methods(await reflection.service(name), indent="  ")
    return 0


async def _describe(reflection: Reflection, symbol: str) -> None:
    try:
        _methods(await reflection.service(symbol))
    except NotDescribed as error:
        try:
            _fields(await reflection.message(symbol))
        except NotDescribed:
            raise error from None


def _methods(service: Any, indent: str = "") -> None:
    for method in service.methods:
        streams = ["stream " if streaming else "" for streaming in (method.client_streaming, method.server_streaming)]
        sends, gives = method.input_type.full_name, method.output_type.full_name
        click.echo(f"{indent}{method.name}({streams[0]}{sends}) returns ({streams[1]}{gives})")


def _fields(message: Any) -> None:
    for field in message.fields:
        click.echo(f"{field.name}: {'repeated ' if field.is_repeated else ''}{_type(field)}")


def _type(field: Any) -> str:
    if field.message_type is not None:
        return str(field.message_type.full_name)
    if field.enum_type is not None:
        return f"one of {', '.join(value.name for value in field.enum_type.values)}"
    return _SCALARS[field.type]


_SCALARS = {
    value: name.removeprefix("TYPE_").lower()
    for name, value in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}
"""The names that proto files have for the numbers of types."""
