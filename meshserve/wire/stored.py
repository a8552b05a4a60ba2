"""An application's desired state <-> its record in the store (stored.proto)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from meshserve.core.desire import wanted_deployment
from meshserve.model.control import Build, CountSource, DeploymentSpec, Desired, DesiredApplication, DesiredDeployment
from meshserve.model.declared import Capacity, CapacityDirection, Declaration
from meshserve.v1 import controller_pb2, stored_pb2
from meshserve.wire.application import application_to_proto
from meshserve.wire.control import application_from_proto, deployment_from_proto

CodeKey = tuple[str, str]
"""A deployment's name and a code version."""


def application_record(application: DesiredApplication, desired: Desired) -> bytes:
    """The record of an application, without code."""
    spec = application.spec
    own = [replace(one, code=b"") for one in (*spec.deployments, *application.dropped)]
    written = application_to_proto(replace(spec, deployments=tuple(own)))
    record = stored_pb2.StoredApplication(
        spec=application_to_proto(replace(spec, deployments=())),
        generation=application.generation,
        deployed_at_s=application.deployed_at_s,
        deleting=application.deleting,
        declaration=_declaration_to_proto(application.declaration),
        build=_build_to_proto(application.build),
        deployments=[
            _deployment_to_proto(proto, desired.deployments[one.id], one in application.dropped)
            for proto, one in zip(written.deployments, own, strict=True)
        ],
        former_prefixes=application.former_prefixes,
    )
    return record.SerializeToString()


def _deployment_to_proto(
    spec: controller_pb2.DeploymentSpec, wanted: DesiredDeployment, dropped: bool
) -> stored_pb2.StoredDeployment:
    return stored_pb2.StoredDeployment(
        spec=spec,
        count=wanted.count,
        autoscaled=wanted.count_source is CountSource.AUTOSCALER,
        generation=wanted.generation,
        failure=wanted.failure,
        dropped=dropped,
    )


def _declaration_to_proto(declaration: Declaration | None) -> stored_pb2.StoredDeclaration | None:
    if declaration is None:
        return None
    return stored_pb2.StoredDeclaration(
        config_json=declaration.config_json,
        import_paths=declaration.import_paths,
        code_key=declaration.code_key,
        route_prefix=declaration.route_prefix,
    )


def _build_to_proto(build: Build | None) -> stored_pb2.StoredBuild | None:
    if build is None:
        return None
    base = None
    if build.base is not None:
        without_code = tuple(replace(one, code=b"") for one in build.base.deployments)
        base = application_to_proto(replace(build.base, deployments=without_code))
    return stored_pb2.StoredBuild(code_key=build.code_key, base=base, failure=build.failure, by_value=build.by_value)


def code_keys(record: bytes) -> tuple[CodeKey, ...]:
    """The code that a record's deployments need; those that go away need none."""
    proto = stored_pb2.StoredApplication.FromString(record)
    specs = (*(one.spec for one in proto.deployments if not one.dropped), *proto.build.base.deployments)
    return tuple(dict.fromkeys((spec.name, spec.code_version) for spec in specs))


def application_from_record(
    record: bytes, code: Mapping[CodeKey, bytes]
) -> tuple[DesiredApplication, tuple[DesiredDeployment, ...]]:
    """An application and its deployments from its record.

    Args:
        code: by `code_keys`.
    """
    proto = stored_pb2.StoredApplication.FromString(record)
    specs = [_spec_from_proto(one.spec, proto.spec.name, code) for one in proto.deployments]
    by_drop = list(zip(proto.deployments, specs, strict=True))
    spec = replace(
        application_from_proto(proto.spec), deployments=tuple(spec for one, spec in by_drop if not one.dropped)
    )
    dropped = tuple(spec for one, spec in by_drop if one.dropped)
    application = DesiredApplication(
        spec,
        proto.generation,
        proto.deployed_at_s,
        proto.deleting,
        dropped,
        _declaration_from_proto(proto),
        _build_from_proto(proto, code),
        tuple(proto.former_prefixes),
    )
    deployments = tuple(
        replace(
            wanted_deployment(spec, own, one.generation),
            count=one.count,
            count_source=CountSource.AUTOSCALER if one.autoscaled else CountSource.PEOPLE,
            deleting=proto.deleting or one.dropped,
            failure=one.failure,
        )
        for one, own in by_drop
    )
    return application, deployments


def _declaration_from_proto(proto: stored_pb2.StoredApplication) -> Declaration | None:
    if not proto.HasField("declaration"):
        return None
    own = proto.declaration
    prefix = own.route_prefix if own.HasField("route_prefix") else None
    return Declaration(proto.spec.name, own.config_json, tuple(own.import_paths), own.code_key, prefix)


def _build_from_proto(proto: stored_pb2.StoredApplication, code: Mapping[CodeKey, bytes]) -> Build | None:
    if not proto.HasField("build"):
        return None
    base = None
    if proto.build.HasField("base"):
        specs = tuple(_spec_from_proto(one, proto.spec.name, code) for one in proto.build.base.deployments)
        base = replace(application_from_proto(proto.build.base), deployments=specs)
    return Build(proto.build.code_key, base, proto.build.failure, dict(proto.build.by_value))


def config_record(desired: Desired) -> bytes:
    """The record of the configuration file last applied."""
    return stored_pb2.StoredConfig(
        config_json=desired.config_json,
        target_capacity=desired.capacity.target,
        capacity_direction=int(desired.capacity.direction),
    ).SerializeToString()


def with_config(desired: Desired, record: bytes | None) -> Desired:
    """A desired state with what the record says of the configuration file; None when there is none."""
    if record is None:
        return desired
    proto = stored_pb2.StoredConfig.FromString(record)
    target = proto.target_capacity if proto.HasField("target_capacity") else None
    capacity = Capacity(target, CapacityDirection(proto.capacity_direction))
    return replace(desired, config_json=proto.config_json, capacity=capacity)


def _spec_from_proto(proto: controller_pb2.DeploymentSpec, app: str, code: Mapping[CodeKey, bytes]) -> DeploymentSpec:
    spec = deployment_from_proto(proto, app)
    return replace(spec, code=code.get((spec.id.name, spec.code_version), b""))
