"""`meshserve delete` and `shutdown`: ending a mesh that runs, or a part of it."""

from __future__ import annotations

import click

from meshserve.api.mesh import connect, mesh_runs
from meshserve.api.run import delete as delete_application
from meshserve.api.run import shutdown as shut_mesh_down
from meshserve.api.status import status as mesh_status
from meshserve.cli.failures import CommandError, reporting
from meshserve.cli.ingress_flags import address_flag
from meshserve.launch.ray_cluster import join


@click.command()
@click.argument("name")
@address_flag
def delete(name: str, address: str) -> None:
    """Deletes an application."""
    with reporting(f"{name!r} was not deleted"):
        connect(address)
        known = mesh_status().applications
        if name not in known:
            raise CommandError(f"There is no application {name!r}; there are: {', '.join(sorted(known)) or 'none'}.")
        delete_application(name)
    click.echo(f"Application {name!r} is gone.")


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@address_flag
def shutdown(yes: bool, address: str) -> None:
    """Deletes all applications and ends the mesh. The Ray cluster goes on."""
    with reporting("The mesh was not shut down"):
        cluster = join(address, log_to_driver=False)
        if not mesh_runs():
            click.echo(f"No mesh runs in {cluster}.")
            return
    if not yes:
        click.confirm("All applications will be deleted and the mesh ends. Go on?", abort=True)
    with reporting("The mesh was not shut down"):
        shut_mesh_down()
    click.echo("The mesh is shut down.")
