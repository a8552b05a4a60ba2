"""An application's specification, to the wire."""

from __future__ import annotations

from meshserve.model.control import ApplicationSpec, DeploymentSpec
from meshserve.v1 import controller_pb2, watch_pb2
from meshserve.wire.options import options_to_json


def application_to_proto(spec: ApplicationSpec) -> controller_pb2.ApplicationSpec:
    """One application."""
    return controller_pb2.ApplicationSpec(
        name=spec.name,
        route_prefix=spec.route_prefix,
        deployments=[_deployment(one) for one in spec.deployments],
        ingress_deployment=spec.ingress,
        external_scaler_enabled=spec.external_scaler_enabled,
        import_paths=spec.import_paths,
        grpc_servicer_functions=spec.grpc_servicer_functions,
        source=int(spec.source),  # type: ignore[arg-type]  # the enum's numbers are the wire's
        logging_config_json=spec.logging_config_json,
        autoscaling_policy_json=spec.autoscaling_policy_json,
    )


def _deployment(spec: DeploymentSpec) -> controller_pb2.DeploymentSpec:
    return controller_pb2.DeploymentSpec(
        name=spec.id.name,
        code=spec.code,
        code_version=spec.code_version,
        options_json=options_to_json(spec.options),
        uses=[watch_pb2.DeploymentKey(app=used.app, deployment=used.name) for used in spec.uses],
        docs_path=spec.docs_path,
    )
