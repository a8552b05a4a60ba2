"""`meshserve call`: calls a method of a gRPC server that describes itself, with JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import grpc.aio
from google.protobuf import json_format

from meshserve.cli.endpoint_flags import Server, on_server
from meshserve.cli.failures import CommandError
from meshserve.client.reflection import Reflection


@click.command()
@on_server
@click.argument("method", metavar="SERVICE/METHOD")
@click.argument("data", nargs=-1, metavar="[JSON|@FILE|-]...")
@click.option("-v", "--verbose", is_flag=True, help="Show headers and trailers.")
async def call(server: Server, method: str, data: tuple[str, ...], verbose: bool) -> int:
    """Calls a method, and prints each response as JSON.

    SERVICE is a full name, or as much of its end as is clear. A request is a JSON object; one that is missing is empty,
    and `-` reads from standard input. Methods that take a stream of requests take several.

    \b
        meshserve call localhost:9000 CallService/Call '{"method": "add", "json": {"args": [1, 2]}}'

    A call that fails ends the command with exit code 64 and the number of its gRPC code.
    """
    reflection = Reflection(server.channel, server.metadata, server.timeout_s)
    rpc = await _method(reflection, method)
    request, response = (reflection.message_class(kind) for kind in (rpc.input_type, rpc.output_type))
    requests = [_message(request, value) for value in _values(data)]
    running = _start(server, rpc, request, response, requests)
    if verbose:
        _show("Response headers", await running.initial_metadata())
    try:
        async for reply in _replies(running, rpc.server_streaming):
            click.echo(json_format.MessageToJson(reply, indent=2, ensure_ascii=False))
    finally:
        if verbose:
            _show("Response trailers", await running.trailing_metadata())
    return 0


async def _method(reflection: Reflection, name: str) -> Any:
    service_name, _, method = name.replace("/", ".").lstrip(".").rpartition(".")
    if not service_name:
        raise CommandError(f"{name!r} is not SERVICE/METHOD.")
    service = await reflection.service(service_name)
    found = service.methods_by_name.get(method)
    if found is None:
        there = ", ".join(each.name for each in service.methods)
        raise CommandError(f"{service.full_name} has no method {method!r}; it has {there}.")
    return found


def _values(data: tuple[str, ...]) -> Iterator[Any]:
    """The JSON values in all arguments: an argument, a file or standard input may hold several."""
    decoder = json.JSONDecoder()
    for source in data:
        text = _text(source).strip()
        while text:
            try:
                value, end = decoder.raw_decode(text)
            except json.JSONDecodeError as error:
                raise CommandError(f"{text[:60]!r} is not JSON: {error}") from error
            yield value
            text = text[end:].lstrip()


def _text(source: str) -> str:
    if source == "-":
        return sys.stdin.read()
    return Path(source[1:]).read_text() if source.startswith("@") else source


def _message(kind: Any, value: Any) -> Any:
    try:
        return json_format.ParseDict(value, kind(), descriptor_pool=kind.DESCRIPTOR.file.pool)
    except Exception as error:  # whatever protobuf raises for JSON that does not fit
        raise CommandError(f"the request is no {kind.DESCRIPTOR.full_name}: {error}") from error


def _start(server: Server, rpc: Any, request: Any, response: Any, requests: list[Any]) -> Any:
    """Begins the call, of whichever kind."""
    if not rpc.client_streaming and len(requests) > 1:
        raise CommandError(f"{rpc.full_name} takes one request, not {len(requests)}.")
    shape = f"{'stream' if rpc.client_streaming else 'unary'}_{'stream' if rpc.server_streaming else 'unary'}"
    path = f"/{rpc.containing_service.full_name}/{rpc.name}"
    open_method: Any = getattr(server.channel, shape)
    method = open_method(path, request.SerializeToString, response.FromString)
    given: Any = iter(requests) if rpc.client_streaming else (requests or [request()])[0]
    return method(given, timeout=server.timeout_s, metadata=server.metadata)


async def _replies(running: Any, streaming: bool) -> Any:
    if not streaming:
        yield await running
        return
    async for reply in running:
        yield reply


def _show(title: str, metadata: grpc.aio.Metadata) -> None:
    click.echo(f"{title}:", err=True)
    for key, value in metadata:
        click.echo(f"  {key}: {value!r}" if isinstance(value, bytes) else f"  {key}: {value}", err=True)
