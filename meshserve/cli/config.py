"""`meshserve config`: what configuration files have made of the mesh."""

from __future__ import annotations

import json
from typing import Any

import click

from meshserve.api.declarative import config_in_force
from meshserve.api.mesh import mesh_runs
from meshserve.cli.failures import CommandError, reporting
from meshserve.cli.ingress_flags import address_flag
from meshserve.cli.yaml_text import as_yaml
from meshserve.launch.ray_cluster import join


@click.command()
@click.option("-n", "--name", help="Of one application only.")
@click.option("--whole", is_flag=True, help="Print the whole file, such that `deploy` takes it.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True, help="As what.")
@address_flag
def config(name: str | None, whole: bool, output: str, address: str) -> None:
    """Prints the entries of the applications that `meshserve deploy` and `run FILE` have set."""
    with reporting("The configuration is not known"):
        join(address, log_to_driver=False)
        file: dict[str, Any] = json.loads((config_in_force() if mesh_runs() else "") or "{}")
    entries = file.get("applications", [])
    if name is not None:
        entries = [one for one in entries if one.get("name", "default") == name]
        if not entries:
            raise CommandError(f'No config has been deployed for application "{name}".')
    if not file and name is None:
        click.echo("No configuration was found. `meshserve deploy FILE` sets one.")
        return
    shown = [file] if whole else entries
    if output == "json":
        click.echo(json.dumps(shown[0] if whole or name is not None else shown, indent=2))
    else:
        click.echo("\n---\n\n".join(as_yaml(one) for one in shown), nl=False)
