"""The command `meshserve`."""

from __future__ import annotations

import click

from meshserve.cli.graph import graph
from meshserve.cli.inspection import delete, shutdown, status
from meshserve.cli.run import run
from meshserve.cli.start import start


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meshserve")
def main() -> None:
    """Serves Python models and services over HTTP and gRPC."""


for command in (run, graph, start, status, delete, shutdown):
    main.add_command(command)


if __name__ == "__main__":
    main()
