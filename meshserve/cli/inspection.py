"""`meshserve status`, `delete` and `shutdown`: looking at a mesh that runs, and ending it or a part of it."""

from __future__ import annotations

import click
import yaml

from meshserve.api.mesh import connect
from meshserve.api.run import delete as delete_application
from meshserve.api.run import shutdown as shut_mesh_down
from meshserve.api.status import status as mesh_status
from meshserve.cli.failures import CommandError, reporting
from meshserve.cli.ingress_flags import address_flag


@click.command()
@click.option("-n", "--name", help="Of one application only.")
@address_flag
def status(name: str | None, address: str) -> None:
    """Prints what runs, as YAML."""
    with reporting("There is no status"):
        connect(address)
        plain = mesh_status().to_dict()
    if name is not None:
        if name not in plain["applications"]:
            known = ", ".join(sorted(plain["applications"])) or "none"
            raise CommandError(f"There is no application {name!r}; there are: {known}.")
        plain = plain["applications"][name]
    click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), nl=False)


@click.command()
@click.argument("name")
@address_flag
def delete(name: str, address: str) -> None:
    """Deletes an application."""
    with reporting(f"{name!r} was not deleted"):
        connect(address)
        if name not in mesh_status().applications:
            raise CommandError(f"There is no application {name!r}.")
        delete_application(name)
    click.echo(f"Application {name!r} is gone.")


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@address_flag
def shutdown(yes: bool, address: str) -> None:
    """Deletes all applications and ends the mesh. The Ray cluster goes on."""
    with reporting("The mesh was not shut down"):
        connect(address)
    if not yes:
        click.confirm("All applications will be deleted and the mesh ends. Go on?", abort=True)
    with reporting("The mesh was not shut down"):
        shut_mesh_down()
    click.echo("The mesh is shut down.")
