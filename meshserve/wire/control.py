"""What the control API is told <-> the model."""

from __future__ import annotations

from meshserve.model.control import ApplicationSpec, DeploymentSpec, ProxyOptions, ReplicaRank, Source
from meshserve.model.ids import DeploymentId
from meshserve.settings import PROXY_MIN_DRAIN_S
from meshserve.v1 import controller_pb2, proxy_control_pb2, replica_control_pb2
from meshserve.wire.options import options_from_json
from meshserve.wire.targets import key_from_proto


def application_from_proto(proto: controller_pb2.ApplicationSpec) -> ApplicationSpec:
    """An application's specification from the wire; its inverse is `application.application_to_proto`.

    Raises:
        TypeError, ValueError: a deployment's options cannot be read.
    """
    return ApplicationSpec(
        name=proto.name,
        deployments=tuple(deployment_from_proto(one, proto.name) for one in proto.deployments),
        ingress=proto.ingress_deployment,
        route_prefix=proto.route_prefix if proto.HasField("route_prefix") else None,
        external_scaler_enabled=proto.external_scaler_enabled,
        import_paths=tuple(proto.import_paths),
        grpc_servicer_functions=tuple(proto.grpc_servicer_functions),
        source=Source(proto.source) if proto.source else Source.IMPERATIVE,
        logging_config_json=proto.logging_config_json,
        autoscaling_policy_json=proto.autoscaling_policy_json,
    )


def deployment_from_proto(proto: controller_pb2.DeploymentSpec, app: str) -> DeploymentSpec:
    """A deployment's specification from the wire; raises as `application_from_proto`."""
    return DeploymentSpec(
        id=DeploymentId(app, proto.name),
        code_version=proto.code_version,
        options=options_from_json(proto.options_json),
        code=proto.code,
        uses=tuple(key_from_proto(used) for used in proto.uses),
        docs_path=proto.docs_path,
    )


def proxy_options_to_proto(options: ProxyOptions) -> proxy_control_pb2.ProxyOptions:
    """Options of the proxies to the wire."""
    return proxy_control_pb2.ProxyOptions(
        location=options.location,
        http_json=options.http_json,
        grpc_json=options.grpc_json,
        logging_json=options.logging_json,
        tracing_json=options.tracing_json,
        min_drain_s=options.min_drain_s if options.min_drain_s != PROXY_MIN_DRAIN_S else None,
    )


def proxy_options_from_proto(proto: proxy_control_pb2.ProxyOptions) -> ProxyOptions:
    """Options of the proxies from the wire; an empty location is every node."""
    return ProxyOptions(
        proto.location or "EveryNode",
        proto.http_json,
        proto.grpc_json,
        proto.logging_json,
        proto.tracing_json,
        proto.min_drain_s if proto.HasField("min_drain_s") else PROXY_MIN_DRAIN_S,
    )


def rank_to_proto(rank: ReplicaRank) -> replica_control_pb2.ReplicaRank:
    """A replica's rank to the wire."""
    return replica_control_pb2.ReplicaRank(rank=rank.rank, node_rank=rank.node_rank, local_rank=rank.local_rank)


def rank_from_proto(proto: replica_control_pb2.ReplicaRank) -> ReplicaRank:
    """A replica's rank from the wire."""
    return ReplicaRank(proto.rank, proto.node_rank, proto.local_rank)
