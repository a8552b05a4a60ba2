"""`meshserve start`: starts the mesh in a Ray cluster that runs."""

from __future__ import annotations

import click

from meshserve.api.ingress_options import ProxyLocation
from meshserve.api.run import start as start_mesh
from meshserve.cli.failures import CommandError, reporting
from meshserve.cli.ingress_flags import address_flag, fields, ingress_flags
from meshserve.launch.ray_cluster import address_to_join, join_or_start


@click.command()
@click.option(
    "--proxy-location",
    type=click.Choice([str(location) for location in ProxyLocation]),
    default=str(ProxyLocation.EveryNode),
    show_default=True,
    help="Which machines have a proxy: those with replicas and the head, the head, or none.",
)
@click.option(
    "--grpc-enable-reflection/--grpc-disable-reflection", default=None, help="Whether gRPC describes itself. [it does]"
)
@ingress_flags
@address_flag
def start(
    proxy_location: str,
    grpc_enable_reflection: bool | None,
    http_host: str | None,
    http_port: int | None,
    grpc_port: int | None,
    grpc_servicer_functions: tuple[str, ...],
    address: str,
) -> None:
    """Starts the mesh in a Ray cluster that runs. Applications are added with `meshserve run`."""
    if not address_to_join(address):
        raise CommandError(
            "No Ray cluster runs that could hold the mesh: start one with `ray start --head`, "
            "or give these options to `meshserve run`."
        )
    with reporting("The mesh does not start"):
        cluster = join_or_start(address)
        start_mesh(
            proxy_location,
            fields(host=http_host, port=http_port),
            fields(
                port=grpc_port,
                grpc_servicer_functions=grpc_servicer_functions,
                enable_reflection=grpc_enable_reflection,
            ),
        )
    click.echo(f"The mesh runs in {cluster}.")
