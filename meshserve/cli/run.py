"""`meshserve run`: runs an application until Ctrl-C, and leaves nothing behind."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import ExitStack

import click

from meshserve.api.client import client, wait_for
from meshserve.api.deploy import RunTarget, set_and_wait, specify
from meshserve.api.mesh import ensure_mesh, mesh_runs, proxy_options, shut_down
from meshserve.api.run import delete
from meshserve.api.urls import grpc_address, http_url
from meshserve.cli.failures import CommandError, reporting, reporting_user_code
from meshserve.cli.ingress_flags import address_flag, fields, ingress_flags
from meshserve.cli.progress import Progress, progress_on
from meshserve.cli.target import load_application
from meshserve.launch.ray_cluster import address_to_join, join_or_start, leave
from meshserve.model.control import ApplicationSpec, ProxyOptions
from meshserve.model.overview import MeshOverview

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C has ended before it was done."""


@click.command()
@click.argument("target", metavar="MODULE:APPLICATION")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--blocking/--non-blocking", default=True, help="Run until Ctrl-C, or return when it runs.")
@click.option("--name", default="default", show_default=True, help="The name of the application.")
@click.option("--route-prefix", default="/", show_default=True, help="The path under which it answers HTTP.")
@click.option("-d", "--app-dir", default=".", show_default=True, help="The folder to import from.")
@ingress_flags
@address_flag
def run(
    target: str,
    arguments: tuple[str, ...],
    blocking: bool,
    name: str,
    route_prefix: str,
    app_dir: str,
    http_host: str | None,
    http_port: int | None,
    grpc_port: int | None,
    grpc_servicer_functions: tuple[str, ...],
    address: str,
) -> None:
    """Runs an application.

    MODULE:APPLICATION is an application, or a function that builds one from the KEY=VALUE arguments.
    """
    _let_signals_interrupt()
    with reporting_user_code(f"{target} cannot be run"):
        application = load_application(target, arguments, app_dir)
        wanted = RunTarget(
            target=application,
            name=name,
            route_prefix=route_prefix,
            grpc_servicer_functions=grpc_servicer_functions,
        )
        specs = specify([wanted])
        http, grpc = fields(host=http_host, port=http_port), fields(port=grpc_port)
        options = proxy_options(http=http, grpc=grpc) if http or grpc else None
    if not blocking and not address_to_join(address):
        raise CommandError(
            "--non-blocking needs a Ray cluster that goes on when this command is over, and none runs: "
            "start one with `ray start --head`."
        )
    sys.exit(_serve(specs[0], options, address, blocking))


def _serve(spec: ApplicationSpec, options: ProxyOptions | None, address: str, blocking: bool) -> int:
    """Brings an application up, waits for Ctrl-C, takes down what it brought up; returns the exit code."""
    progress = progress_on(sys.stderr)
    undo = ExitStack()
    code = INTERRUPTED
    try:
        with progress, reporting("The application does not run"):
            _announce(spec, _bring_up(spec, options, address, progress, undo), progress)
        code = 0
        if blocking:
            progress.say("Press Ctrl-C to stop.")
            threading.Event().wait()
        undo.pop_all()
    except KeyboardInterrupt:
        progress.say("Stopping.")
    finally:
        _take_down(undo)
    return code


def _bring_up(
    spec: ApplicationSpec, options: ProxyOptions | None, address: str, progress: Progress, undo: ExitStack
) -> MeshOverview:
    """Brings up an application and what it needs; notes how to undo each step before it is done."""
    progress.step(f"Joining the Ray cluster at {named}." if (named := address_to_join(address)) else "Starting Ray.")
    undo.callback(leave)
    cluster = join_or_start(address)
    _let_signals_interrupt()  # Ray has put handlers of its own in place
    progress.say(f"Using {cluster}.")
    if not mesh_runs():
        progress.step("Starting the mesh.")
        undo.callback(shut_down)
    elif spec.name not in wait_for(client().status()).applications:
        undo.callback(delete, spec.name)
    mesh = ensure_mesh(options, address)
    progress.step(f"Starting application {spec.name!r}.")
    return set_and_wait([spec], mesh.has_ingress, progress.waiting)


def _let_signals_interrupt() -> None:
    """SIGINT (which a shell lets a command in the background ignore) and SIGTERM raise KeyboardInterrupt."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _announce(spec: ApplicationSpec, mesh: MeshOverview, progress: Progress) -> None:
    places = [http_url(mesh, spec.route_prefix)]
    if spec.grpc_servicer_functions and (grpc := grpc_address(mesh)):
        places.append(f"{grpc} (gRPC)")
    where = " and ".join(place for place in places if place)
    progress.say(f"Application {spec.name!r} is ready" + (f" at {where}." if where else "."))


def _take_down(undo: ExitStack) -> None:
    try:
        undo.close()
    except KeyboardInterrupt:
        click.echo("Interrupted again: not everything was stopped in order.", err=True)
        sys.exit(INTERRUPTED)
