"""Which applications answer at the ingress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshserve.core.deployment import Part
from meshserve.model.control import Desired, DesiredApplication
from meshserve.model.ids import DeploymentId
from meshserve.model.targets import ApplicationRoute, RouteTable


def route_table(
    desired: Desired, parts: Mapping[DeploymentId, Part], draining: Iterable[str], version: tuple[int, int]
) -> RouteTable:
    """Every application that is not going away, also before its first replica is ready: its calls wait.

    One that was never built is not there: nobody knows what would answer.

    Args:
        draining: ids of nodes whose proxies take no new connections.
    """
    applications = () if desired.shutting_down else desired.applications.values()
    return RouteTable(
        version,
        tuple(_route(one, parts) for one in applications if not one.deleting and one.spec.deployments),
        tuple(sorted(draining)),
    )


def _route(application: DesiredApplication, parts: Mapping[DeploymentId, Part]) -> ApplicationRoute:
    spec = application.spec
    ingress = DeploymentId(spec.name, spec.ingress)
    patterns = parts[ingress].introduction.route_patterns if ingress in parts else ()
    return ApplicationRoute(
        spec.name,
        spec.route_prefix,
        ingress,
        patterns,
        spec.grpc_servicer_functions,
        spec.import_paths,
        application.former_prefixes,
    )
