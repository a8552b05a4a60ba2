"""`meshserve build`: the configuration file of applications, to begin with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from meshserve.api.application import Application
from meshserve.api.graph import named_deployments
from meshserve.api.schema_export import entry_of
from meshserve.api.schema_file import ServeDeploySchema
from meshserve.cli.failures import reporting_user_code
from meshserve.cli.yaml_text import as_yaml
from meshserve.rpc.import_path import import_object

_HEAD = "# Written by `meshserve build`. To run it: meshserve deploy FILE\n\n"


@click.command()
@click.argument("import_paths", nargs=-1, required=True, metavar="MODULE:APPLICATION...")
@click.option("-d", "--app-dir", default=".", show_default=True, help="The folder to import from.")
@click.option("-o", "--output-path", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
@click.option(
    "--grpc-servicer-functions",
    multiple=True,
    metavar="MODULE:FUNCTION",
    help="add_...Servicer_to_server of a gRPC service to serve. May be given several times.",
)
@click.option("--grpc-enable-reflection/--grpc-disable-reflection", default=True, help="Whether gRPC describes itself.")
def build(
    import_paths: tuple[str, ...],
    app_dir: str,
    output_path: Path | None,
    grpc_servicer_functions: tuple[str, ...],
    grpc_enable_reflection: bool,
) -> None:
    """Writes a configuration file of applications, with the options that stand in their code.

    The applications are called app1, app2, ...: rename them as you like.
    """
    sys.path.insert(0, str(Path(app_dir).absolute()))
    with reporting_user_code("No file was written"):
        names = [f"app{number}" for number in range(1, len(import_paths) + 1)]
        applications = [_entry(name, path, len(names) == 1) for name, path in zip(names, import_paths, strict=True)]
        content = {
            "proxy_location": "EveryNode",
            "http_options": {"host": "0.0.0.0", "port": 8000},
            "grpc_options": {
                "port": 9000,
                "grpc_servicer_functions": list(grpc_servicer_functions),
                "enable_reflection": grpc_enable_reflection,
            },
            "logging_config": {"encoding": "TEXT", "log_level": "INFO", "logs_dir": None, "enable_access_log": True},
            "applications": applications,
        }
        ServeDeploySchema.model_validate(content)
    text = _HEAD + "\n".join(as_yaml({field: value}) for field, value in content.items())
    if output_path is None:
        click.echo(text, nl=False)
        return
    output_path.write_text(text, encoding="utf-8")
    click.echo(f"Written to {output_path}.", err=True)


def _entry(name: str, path: str, alone: bool) -> dict[str, Any]:
    application = import_object(path)
    if not isinstance(application, Application):
        raise TypeError(
            f"{path} is {application!r}, not an application. A function that builds one goes into a file by hand: its "
            "path is the import_path, its arguments are args."
        )
    deployments = [entry_of(own, deployment) for own, deployment in named_deployments(application)]
    return {
        "name": name,
        "route_prefix": "/" if alone else f"/{name}",
        "import_path": path,
        "runtime_env": {},
        "deployments": deployments,
    }
