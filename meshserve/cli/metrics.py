"""`meshserve metrics export`: what Grafana and Prometheus need to show a mesh and to watch over it."""

from __future__ import annotations

from pathlib import Path

import click

from meshserve.cli.failures import reporting
from meshserve.telemetry.export import export_assets


@click.group()
def metrics() -> None:
    """What Grafana and Prometheus need."""


@metrics.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def export(folder: Path) -> None:
    """Writes a dashboard for Grafana and alert rules for Prometheus to a folder, which is made."""
    with reporting("The files were not written"):
        written = export_assets(folder)
    for path in written:
        click.echo(path)
