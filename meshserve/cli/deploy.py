"""`meshserve deploy`: what a file says should run, runs from now on."""

from __future__ import annotations

import sys

import click

from meshserve.api.client import ConfigAnswer
from meshserve.api.declarative import apply_config, changes_of_nothing, wait_until_applied
from meshserve.api.mesh import ensure_controller, ensure_mesh, mesh_runs
from meshserve.cli.changes import as_lines
from meshserve.cli.environment_flags import environment_flags, environment_of
from meshserve.cli.failures import CommandError, reporting
from meshserve.cli.ingress_flags import address_flag
from meshserve.cli.progress import progress_on
from meshserve.cli.source import Source, file_source, is_file, path_source
from meshserve.launch.ray_cluster import join


@click.command()
@click.argument("target", metavar="FILE|MODULE:APPLICATION")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--name", help="The name of the application, of an import path. [default: default]")
@click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
@click.option("--wait/--no-wait", default=False, help="Return when everything runs. [default: at once]")
@click.option("--revision", default="", help="Of the code: with another one than before, everything is built again.")
@click.option("-d", "--app-dir", default=".", show_default=True, help="The folder to import from.")
@environment_flags
@address_flag
def deploy(
    target: str,
    arguments: tuple[str, ...],
    name: str | None,
    dry_run: bool,
    wait: bool,
    revision: str,
    app_dir: str,
    runtime_env: str | None,
    runtime_env_json: str | None,
    working_dir: str | None,
    address: str,
) -> None:
    """Makes what FILE says run, in the background: applications of an earlier file that are not in this one are
    deleted, those that programs have started stay, and the same file twice changes nothing.

    \b
    meshserve build main:app -o serve.yaml    writes a file to begin with
    meshserve deploy serve.yaml --dry-run     tells what would change
    meshserve deploy serve.yaml --wait        exit code 0 when all of it runs, 1 when it does not

    MODULE:APPLICATION, an application or a function that builds one from the KEY=VALUE arguments, stands for a file
    with this application alone. Modules are found beside FILE and in --app-dir when the mesh runs on this machine;
    elsewhere they come with the runtime environment.
    """
    environment = environment_of(runtime_env, runtime_env_json, working_dir)
    if is_file(target):
        source = _of_file(target, arguments, name, bool(environment), app_dir)
    else:
        source = path_source(target, arguments, name, environment, app_dir)
    with reporting(f"{target} was not deployed"):
        join(address, log_to_driver=False)
        if dry_run:
            _say(_preview(source, revision))
            return
        options = source.schema.controller_options
        ensure_controller(runtime_env=options.runtime_env if options is not None else None)
        answer = apply_config(source.json, source.import_paths, revision)
    _say(answer)
    click.echo("Sent deploy request successfully.")
    if wait:
        _wait(answer)
    else:
        click.echo("* meshserve status --watch tells how far it is.\n* meshserve config prints what is in force.")


def _of_file(path: str, arguments: tuple[str, ...], name: str | None, with_environment: bool, app_dir: str) -> Source:
    if arguments:
        raise CommandError(f"Arguments are for import paths; those of applications in {path} stand there, under args.")
    for flag, given in (("--name", name is not None), ("A runtime environment", with_environment)):
        if given:
            click.echo(f"Warning: {flag} is ignored for a file.", err=True)
    return file_source(path, app_dir)


def _preview(source: Source, revision: str) -> ConfigAnswer:
    if not mesh_runs():
        return changes_of_nothing(source.json)
    return apply_config(source.json, source.import_paths, revision, dry_run=True)


def _say(answer: ConfigAnswer) -> None:
    for line in as_lines(answer):
        click.echo(line)


def _wait(answer: ConfigAnswer) -> None:
    progress = progress_on(sys.stderr)
    with progress, reporting("It was deployed, and does not run"):
        wait_until_applied(answer, ensure_mesh().has_ingress, progress.waiting)
    click.echo("Everything runs.")
