"""How commands reach a gRPC server: its address, TLS, a token, headers; and how they end when a call fails."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import update_wrapper
from typing import Any, NoReturn

import click
import grpc
import grpc.aio
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no py.typed

from meshserve.cli.failures import CommandError
from meshserve.client.channel import Endpoint, Metadata
from meshserve.client.reflection import NotDescribed
from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.status_details import DETAILS_KEY

KNOWN_DETAILS = error_details_pb2.DESCRIPTOR.pool
"""Where the details of errors are described; importing the module put them there."""

_EXIT_CODE_OF_OK = 64
"""A failed call ends the command with this and the number of its code, as grpcurl does."""


class Server:
    """A server that a command talks to.

    Attributes:
        channel: to it.
        metadata: to send with each call.
        timeout_s: of each call; None for none.
    """

    def __init__(self, endpoint: Endpoint, headers: Metadata, timeout_s: float | None) -> None:
        self.channel = endpoint.open()
        self.metadata = (*endpoint.metadata, *headers)
        self.timeout_s = timeout_s


def on_server(command: Callable[..., Awaitable[int]]) -> Callable[..., None]:
    """Makes a command of a coroutine function: its first argument is the `Server` that the flags name, and what it
    returns is the exit code."""

    async def run(endpoint: Endpoint, headers: Metadata, timeout_s: float | None, arguments: dict[str, Any]) -> int:
        server = Server(endpoint, headers, timeout_s)
        try:
            return await command(server, **arguments)
        finally:
            await server.channel.close()

    def wrapped(
        target: str,
        tls: bool,
        cacert: str | None,
        cert: str | None,
        key: str | None,
        token: str,
        header: tuple[str, ...],
        application: str | None,
        timeout: float | None,
        **arguments: Any,
    ) -> None:
        headers = tuple(_header(text) for text in header)
        if application is not None:
            headers = (*headers, ("application", application))
        try:
            endpoint = Endpoint(target, tls, cacert, cert, key, token)
            sys.exit(io_thread().run(run(endpoint, headers, timeout, arguments)))
        except grpc.aio.AioRpcError as error:
            fail(error)
        except BrokenPipeError:
            raise  # the output was closed, not the connection, of which gRPC says otherwise: click ends in silence
        except (OSError, ValueError, NotDescribed) as error:
            raise CommandError(str(error)) from error

    return _flags(update_wrapper(wrapped, command))


def _flags(command: Callable[..., None]) -> Callable[..., None]:
    for flag in (
        click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds for each call."),
        click.option("-A", "--application", help="The application to call, for the header `application`."),
        click.option("-H", "--header", multiple=True, metavar="'NAME: VALUE'", help="Metadata. May be repeated."),
        click.option("--token", envvar="MESHSERVE_TOKEN", default="", help="Shown as `authorization: Bearer ...`."),
        click.option("--key", type=click.Path(), help="The key of --cert (PEM)."),
        click.option("--cert", type=click.Path(), help="A certificate to show to the server (PEM)."),
        click.option("--cacert", type=click.Path(), help="Whom to trust (PEM). Turns on TLS."),
        click.option("--tls", is_flag=True, help="Speak TLS, trusting the system's authorities."),
        click.argument("target", metavar="HOST:PORT"),
    ):
        command = flag(command)
    return command


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise click.BadParameter(f"{text!r} is not NAME: VALUE.", param_hint="--header")
    return name.strip().lower(), value.strip()


def fail(error: grpc.aio.AioRpcError) -> NoReturn:
    """Tells how a call failed, and ends the command."""
    code = error.code()
    lines = ["ERROR:", f"  Code: {''.join(word.title() for word in code.name.split('_'))}"]
    lines.append(f"  Message: {error.details()}")
    packed: Any = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    details = status_pb2.Status.FromString(packed).details if packed else ()
    if details:
        lines.append("  Details:")
    for number, detail in enumerate(details, 1):
        lines.append(f"  {number}) {_described(detail)}")
    click.echo("\n".join(lines), err=True)
    sys.exit(_EXIT_CODE_OF_OK + int(code.value[0]))


def _described(detail: Any) -> str:
    try:
        return json_format.MessageToJson(detail, indent=None, descriptor_pool=KNOWN_DETAILS)
    except Exception:  # noqa: BLE001 - of an unknown type, or not what it claims to be
        return f"{detail.type_url}, {len(detail.value)} bytes"
