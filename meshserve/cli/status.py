"""`meshserve status`: what runs, once or whenever it changes."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from meshserve.api.client import client, wait_for
from meshserve.api.details import instance_details
from meshserve.api.mesh import mesh_runs
from meshserve.api.schema_details import ServeInstanceDetails
from meshserve.api.status import ServeStatus, status_of
from meshserve.api.status import status as mesh_status
from meshserve.cli.failures import CommandError, reporting
from meshserve.cli.ingress_flags import address_flag
from meshserve.cli.interrupts import let_signals_interrupt
from meshserve.cli.status_table import as_tables
from meshserve.cli.yaml_text import as_yaml
from meshserve.launch.ray_cluster import join


@click.command()
@click.option("-n", "--name", help="Of one application only.")
@click.option("-w", "--watch", is_flag=True, help="Go on, and print it again whenever it changes, until Ctrl-C.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "yaml", "json"]),
    help="As what. [default: a table on a terminal, YAML elsewhere]",
)
@click.option("--details", is_flag=True, help="All that is known, in the shape of Ray Serve's REST API.")
@address_flag
def status(name: str | None, watch: bool, output: str | None, details: bool, address: str) -> None:
    """Tells what runs.

    \b
    Applications   DEPLOYING, RUNNING, UNHEALTHY, DEPLOY_FAILED, DELETING
    Deployments    UPDATING, HEALTHY, UNHEALTHY, DEPLOY_FAILED, UPSCALING, DOWNSCALING
    Proxies        STARTING, HEALTHY, UNHEALTHY, DRAINING

    With --watch, YAML comes as a stream of documents, and JSON as one line for each state.
    """
    style = output or ("table" if sys.stdout.isatty() else "yaml")
    with reporting("There is no status"):
        cluster = join(address, log_to_driver=False)
        if not mesh_runs():
            click.echo(f"No mesh runs in {cluster}.", err=True)
        elif watch and not details:
            let_signals_interrupt()  # Ray has put handlers of its own in place
            try:
                wait_for(_follow(style, name))
            except KeyboardInterrupt:
                return
        if details:
            _print_details(output, name)
        elif not watch:
            _print(_chosen(mesh_status(), name), style, name)


def _print_details(output: str | None, name: str | None) -> None:
    runs = mesh_runs()
    empty = ServeInstanceDetails.model_validate(ServeInstanceDetails.get_empty_schema_dict())
    plain = (instance_details() if runs else empty).model_dump(mode="json", exclude_unset=True)
    if name is not None:
        plain = plain["applications"].get(name)
        if plain is None:
            raise CommandError(f"There is no application {name!r}.")
    click.echo(as_yaml(plain) if output == "yaml" else json.dumps(plain, indent=2))


async def _follow(style: str, name: str | None) -> None:
    if style != "table":
        async for now in _states(name):
            click.echo(json.dumps(_plain(now, name)) if style == "json" else "---\n" + as_yaml(_plain(now, name)))
        return
    with Live(console=Console(), auto_refresh=False) as live:
        async for now in _states(name):
            live.update(as_tables(now), refresh=True)


async def _states(name: str | None) -> AsyncIterator[ServeStatus]:
    last: ServeStatus | None = None
    async for mesh in client().watch():
        now = _chosen(status_of(mesh), name, or_nothing=last is not None)
        if now != last:
            last = now
            yield now


def _chosen(status: ServeStatus, name: str | None, or_nothing: bool = False) -> ServeStatus:
    """The status with one application alone.

    Raises:
        CommandError: there is none of that name.
    """
    if name is None:
        return status
    if name not in status.applications and not or_nothing:
        known = ", ".join(sorted(status.applications)) or "none"
        raise CommandError(f"There is no application {name!r}; there are: {known}.")
    chosen = {own: one for own, one in status.applications.items() if own == name}
    return replace(status, applications=chosen)


def _print(status: ServeStatus, style: str, name: str | None) -> None:
    match style:
        case "table":
            Console().print(as_tables(status))
        case "json":
            click.echo(json.dumps(_plain(status, name), indent=2))
        case _:
            click.echo(as_yaml(_plain(status, name)), nl=False)


def _plain(status: ServeStatus, name: str | None) -> Any:
    """The status as plain values: of the mesh, or of one application; None when that has gone."""
    plain = status.to_dict()
    return plain if name is None else plain["applications"].get(name)
