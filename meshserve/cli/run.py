"""`meshserve run`: runs an application or a file until Ctrl-C, and leaves nothing behind."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from meshserve.api.mesh import mesh_runs, proxy_options, shut_down
from meshserve.cli.environment_flags import environment_flags, environment_of
from meshserve.cli.failures import CommandError, reporting, reporting_user_code
from meshserve.cli.ingress_flags import address_flag, fields, ingress_flags
from meshserve.cli.interrupts import let_signals_interrupt
from meshserve.cli.progress import Progress, progress_on
from meshserve.cli.reload import picture, wait_for_change
from meshserve.cli.run_jobs import FileJob, ImportedJob, Job
from meshserve.cli.source import is_file
from meshserve.launch.ray_cluster import address_to_join, join_or_start, leave

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C has ended before it was done."""


@click.command()
@click.argument("target", metavar="FILE|MODULE:APPLICATION")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--blocking/--non-blocking", default=True, help="Run until Ctrl-C, or return when it runs.")
@click.option("-r", "--reload", is_flag=True, help="Start it again whenever code in --app-dir changes.")
@click.option("--name", default="default", show_default=True, help="The name of the application.")
@click.option("--route-prefix", default="/", show_default=True, help="The path under which it answers HTTP.")
@click.option("-d", "--app-dir", default=".", show_default=True, help="The folder to import from.")
@environment_flags
@ingress_flags
@address_flag
def run(
    target: str,
    arguments: tuple[str, ...],
    blocking: bool,
    reload: bool,
    name: str,
    route_prefix: str,
    app_dir: str,
    runtime_env: str | None,
    runtime_env_json: str | None,
    working_dir: str | None,
    http_host: str | None,
    http_port: int | None,
    grpc_port: int | None,
    grpc_servicer_functions: tuple[str, ...],
    address: str,
) -> None:
    """Runs an application, or those of a configuration file.

    MODULE:APPLICATION is an application, or a function that builds one from the KEY=VALUE arguments. Without a Ray
    cluster one is started for it; Ctrl-C ends all that was started.

    \b
    meshserve run meshserve.examples.quickstart:app
    meshserve run main:build model=small --reload
    meshserve run serve.yaml
    """
    let_signals_interrupt()
    if reload and not blocking:
        raise CommandError("--reload goes on until Ctrl-C, and --non-blocking returns: use one of them.")
    environment = environment_of(runtime_env, runtime_env_json, working_dir)
    http, grpc = fields(host=http_host, port=http_port), fields(port=grpc_port)
    if is_file(target):
        _warn_ignored(target, arguments=bool(arguments), ingress=bool(http or grpc or grpc_servicer_functions))
        job: Job = FileJob(target, app_dir)
    else:
        how = {"name": name, "route_prefix": route_prefix, "grpc_servicer_functions": grpc_servicer_functions}
        with reporting_user_code(f"{target} cannot be run"):
            options = proxy_options(http=http, grpc=grpc) if http or grpc else None
            job = ImportedJob(target, arguments, app_dir, how, options, bool(environment))
    if not blocking and not address_to_join(address):
        raise CommandError(
            "--non-blocking needs a Ray cluster that goes on when this command is over, and none runs: "
            "start one with `ray start --head`."
        )
    watched = Path(working_dir or app_dir).absolute() if reload else None
    sys.exit(_serve(job, address, environment, blocking, watched))


def _warn_ignored(path: str, arguments: bool, ingress: bool) -> None:
    if arguments:
        click.echo(f"Warning: arguments are ignored for a file; those of applications in {path} stand there.", err=True)
    if ingress:
        click.echo(
            f"Warning: flags about HTTP and gRPC are ignored; {path} has http_options and grpc_options.", err=True
        )


def _serve(job: Job, address: str, environment: Mapping[str, Any], blocking: bool, watched: Path | None) -> int:
    """Brings a job up, waits for Ctrl-C, takes down what it brought up; returns the exit code."""
    progress = progress_on(sys.stderr)
    undo = ExitStack()
    code = INTERRUPTED
    try:
        before = picture(watched) if watched is not None else {}
        with progress, reporting("The application does not run"):
            _bring_up(job, address, environment, progress, undo)
        code = 0
        if watched is not None:
            _refresh_for_ever(job, watched, before, progress)
        if blocking:
            progress.say("Press Ctrl-C to stop.")
            threading.Event().wait()
        undo.pop_all()
    except KeyboardInterrupt:
        progress.say("Stopping.")
    finally:
        _take_down(undo)
    return code


def _bring_up(job: Job, address: str, environment: Mapping[str, Any], progress: Progress, undo: ExitStack) -> None:
    """Brings up a job and what it needs; notes how to undo each step before it is done."""
    named = address_to_join(address)
    if address and named != address:
        progress.say(
            "Warning: An address was passed to `meshserve run` but the imported module also connected to Ray at a "
            f"different address: '{named}'. You do not need to call `ray.init` in your code."
        )
    progress.step(f"Joining the Ray cluster at {named}." if named else "Starting Ray.")
    undo.callback(leave)
    cluster = join_or_start(address, environment or None)
    let_signals_interrupt()  # Ray has put handlers of its own in place
    progress.say(f"Using {cluster}.")
    if not mesh_runs():
        progress.step("Starting the mesh.")
        undo.callback(shut_down)
        job.put(progress, ExitStack())  # never closed: what ends with the mesh need not be deleted before
        return
    job.put(progress, undo)


def _refresh_for_ever(job: Job, folder: Path, before: Mapping[str, tuple[float, int]], progress: Progress) -> None:
    """Brings a job up again at every change; one that does not come up leaves what runs, and says why."""
    seen = dict(before)
    progress.say(f"Watching {folder} for changes. Press Ctrl-C to stop.")
    while True:
        seen, changed = wait_for_change(folder, seen)
        with progress:
            progress.say(f"Changed: {', '.join(changed[:3])}{' ...' if len(changed) > 3 else ''}.")
            try:
                job.refresh(progress)
            except Exception as error:  # noqa: BLE001 - code that is being written may raise anything
                traceback.print_exception(type(error), error, error.__traceback__, limit=-3)
                progress.say("That does not run; what ran before goes on.")


def _take_down(undo: ExitStack) -> None:
    try:
        undo.close()
    except KeyboardInterrupt:
        click.echo("Interrupted again: not everything was stopped in order.", err=True)
        sys.exit(INTERRUPTED)
