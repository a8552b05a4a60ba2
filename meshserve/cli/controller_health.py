"""`meshserve controller-health`: how the controller does."""

from __future__ import annotations

import json

import click

from meshserve.api.details import instance_details
from meshserve.api.mesh import connect
from meshserve.cli.failures import reporting
from meshserve.cli.ingress_flags import address_flag
from meshserve.cli.yaml_text import as_yaml


@click.command("controller-health")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@address_flag
def controller_health(as_json: bool, address: str) -> None:
    """Tells how long turns of the controller's loop take, how late its event loop is, and how long it has run."""
    with reporting("The controller cannot be asked"):
        connect(address)
        health = instance_details().controller_health_metrics
    shown = health.model_dump() if health is not None else {}
    click.echo(json.dumps(shown, indent=2) if as_json else as_yaml(shown), nl=as_json)
