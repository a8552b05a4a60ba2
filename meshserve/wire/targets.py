"""Snapshots for routers and proxies <-> the wire."""

from __future__ import annotations

from dataclasses import replace

from meshserve.model.ids import DeploymentId
from meshserve.model.targets import ApplicationRoute, DeploymentTargets, ReplicaTarget, RouteTable
from meshserve.v1 import watch_pb2
from meshserve.wire.options import options_from_json, options_to_json


def key_to_proto(deployment: DeploymentId) -> watch_pb2.DeploymentKey:
    """A deployment's name to the wire."""
    return watch_pb2.DeploymentKey(app=deployment.app, deployment=deployment.name)


def key_from_proto(proto: watch_pb2.DeploymentKey) -> DeploymentId:
    """A deployment's name from the wire."""
    return DeploymentId(proto.app, proto.deployment)


def targets_to_proto(targets: DeploymentTargets) -> watch_pb2.DeploymentTargets:
    """A deployment's snapshot to the wire."""
    return watch_pb2.DeploymentTargets(
        key=key_to_proto(targets.deployment),
        epoch=targets.version[0],
        version=targets.version[1],
        exists=targets.exists,
        unavailable=targets.unavailable,
        replicas=[_replica_to_proto(replica) for replica in targets.replicas],
        # Classes of actors can be large, and whoever calls replicas has no use for them.
        options_json=options_to_json(replace(targets.options, deployment_actors=())),
    )


def _replica_to_proto(replica: ReplicaTarget) -> watch_pb2.ReplicaTarget:
    return watch_pb2.ReplicaTarget(
        replica_tag=replica.tag,
        address=replica.address,
        node_id=replica.node_id,
        max_ongoing_requests=replica.max_ongoing_requests,
        availability_zone=replica.availability_zone,
        actor_name=replica.actor_name,
        metadata_json=replica.metadata_json,
        routing_stats_json=replica.routing_stats_json,
        multiplexed_model_ids=replica.multiplexed_model_ids,
        node_ip=replica.node_ip,
    )


def targets_from_proto(proto: watch_pb2.DeploymentTargets) -> DeploymentTargets:
    """A deployment's snapshot from the wire.

    Raises:
        TypeError, ValueError: its options cannot be read.
    """
    return DeploymentTargets(
        deployment=key_from_proto(proto.key),
        version=(proto.epoch, proto.version),
        exists=proto.exists,
        unavailable=proto.unavailable,
        replicas=tuple(_replica_from_proto(replica) for replica in proto.replicas),
        options=options_from_json(proto.options_json),
    )


def _replica_from_proto(proto: watch_pb2.ReplicaTarget) -> ReplicaTarget:
    return ReplicaTarget(
        tag=proto.replica_tag,
        address=proto.address,
        node_id=proto.node_id,
        node_ip=proto.node_ip,
        availability_zone=proto.availability_zone,
        max_ongoing_requests=proto.max_ongoing_requests,
        actor_name=proto.actor_name,
        metadata_json=proto.metadata_json,
        routing_stats_json=proto.routing_stats_json,
        multiplexed_model_ids=tuple(proto.multiplexed_model_ids),
    )


def routes_to_proto(routes: RouteTable) -> watch_pb2.RouteTable:
    """The route table to the wire."""
    return watch_pb2.RouteTable(
        epoch=routes.version[0],
        version=routes.version[1],
        applications=[
            watch_pb2.ApplicationRoute(
                app=route.app,
                route_prefix=route.route_prefix or "",
                ingress_deployment=route.ingress.name,
                route_patterns=route.route_patterns,
                grpc_servicer_functions=route.grpc_servicer_functions,
                import_paths=route.import_paths,
                former_prefixes=route.former_prefixes,
            )
            for route in routes.applications
        ],
        draining_nodes=routes.draining_nodes,
    )


def routes_from_proto(proto: watch_pb2.RouteTable) -> RouteTable:
    """The route table from the wire."""
    return RouteTable(
        version=(proto.epoch, proto.version),
        applications=tuple(
            ApplicationRoute(
                app=route.app,
                route_prefix=route.route_prefix or None,
                ingress=DeploymentId(route.app, route.ingress_deployment),
                route_patterns=tuple(route.route_patterns),
                grpc_servicer_functions=tuple(route.grpc_servicer_functions),
                import_paths=tuple(route.import_paths),
                former_prefixes=tuple(route.former_prefixes),
            )
            for route in proto.applications
        ),
        draining_nodes=tuple(proto.draining_nodes),
    )
