"""The state of the mesh, from the wire."""

from __future__ import annotations

from collections.abc import Iterator

from meshserve.model.overview import ApplicationOverview, DeploymentOverview, LogPlace, MeshOverview, ProxyOverview
from meshserve.v1 import controller_pb2


def overview_from_proto(proto: controller_pb2.StatusResponse) -> MeshOverview:
    """The whole mesh."""
    return MeshOverview(
        applications={one.name: _application(one) for one in proto.applications},
        proxies={one.node_id: _proxy(one) for one in proto.proxies},
        target_capacity=proto.target_capacity if proto.HasField("target_capacity") else None,
        generation=proto.generation,
        logs=tuple(place for place in _logs(proto) if place.path),
    )


def _logs(proto: controller_pb2.StatusResponse) -> Iterator[LogPlace]:
    yield LogPlace(proto.controller.log_path)
    for proxy in proto.proxies:
        yield LogPlace(proxy.log_path, proxy.node_ip)
    for application in proto.applications:
        for deployment in application.deployments:
            for one in deployment.replicas:
                yield LogPlace(one.log_path, one.node_ip, application.name, deployment.name, one.replica_tag)


def _application(proto: controller_pb2.ApplicationStatusInfo) -> ApplicationOverview:
    return ApplicationOverview(
        name=proto.name,
        status=proto.status,
        message=proto.message,
        route_prefix=proto.route_prefix if proto.HasField("route_prefix") else None,
        ingress=proto.ingress_deployment,
        last_deployed_time_s=proto.last_deployed_time_s,
        generation=proto.generation,
        deployments=tuple(_deployment(one) for one in proto.deployments),
    )


def _deployment(proto: controller_pb2.DeploymentStatusInfo) -> DeploymentOverview:
    return DeploymentOverview(
        name=proto.name,
        status=proto.status,
        status_trigger=proto.status_trigger,
        message=proto.message,
        replica_states=dict(proto.replica_states),
        target_num_replicas=proto.target_num_replicas,
        published=(proto.published_epoch, proto.published_version),
    )


def _proxy(proto: controller_pb2.ProxyStatusInfo) -> ProxyOverview:
    return ProxyOverview(
        node_id=proto.node_id,
        status=proto.status,
        http_address=proto.http_address,
        grpc_address=proto.grpc_address,
        message=proto.message,
    )
