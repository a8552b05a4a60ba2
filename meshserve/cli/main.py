"""The command `meshserve`."""

from __future__ import annotations

import click

from meshserve.cli.commands import CommandTable


@click.group(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="meshserve")
def main() -> None:
    """Serves Python models and services over HTTP and gRPC.

    \b
    Begin:   meshserve run meshserve.examples.quickstart:app
    Ask it:  curl localhost:8000 -d '{"name": "Ana", "text": "Hola"}'

    Every command explains itself with --help.
    """


if __name__ == "__main__":
    main()
