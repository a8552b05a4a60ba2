"""Flags about the ingress that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def address_flag(command: F) -> F:
    """`--address`."""
    return click.option(
        "-a",
        "--address",
        default="",
        callback=_cluster_address,
        help="The Ray cluster to use, host:port. By default that of RAY_ADDRESS, or one that runs on this machine.",
    )(command)


def _cluster_address(_context: click.Context, _flag: click.Parameter, value: str) -> str:
    """The address of a cluster; that of its dashboard, which scripts for Ray Serve give, is none."""
    if value.startswith(("http://", "https://")):
        click.echo(
            f"Warning: {value} is a dashboard, and the mesh is not behind it; --address is that of the Ray cluster, "
            "host:port. The one that runs on this machine is used.",
            err=True,
        )
        return ""
    return "" if value == "auto" else value


def ingress_flags(command: F) -> F:
    """Flags about where the mesh is reached. They count when the mesh is started, not when it runs already."""
    for flag in reversed(
        (
            click.option("--http-host", help="The address to serve HTTP on. [default: 127.0.0.1]"),
            click.option("--http-port", type=click.IntRange(0, 65535), help="Its port. [default: 8000]"),
            click.option(
                "--grpc-port", type=click.IntRange(0, 65535), help="The port to serve gRPC on. [default: 9000]"
            ),
            click.option(
                "--grpc-servicer-functions",
                multiple=True,
                metavar="MODULE:FUNCTION",
                help="add_...Servicer_to_server of a gRPC service to serve. May be given several times.",
            ),
        )
    ):
        command = flag(command)
    return command


def fields(**flags: Any) -> dict[str, Any]:
    """The flags that were given, as fields of an option class."""
    return {name: value for name, value in flags.items() if value not in (None, ())}
