"""An application's desired state <-> its record in the store (stored.proto)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from meshserve.core.desire import wanted_deployment
from meshserve.model.control import CountSource, DeploymentSpec, Desired, DesiredApplication, DesiredDeployment
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
        deployments=[
            _deployment_to_proto(proto, desired.deployments[one.id], one in application.dropped)
            for proto, one in zip(written.deployments, own, strict=True)
        ],
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


def code_keys(record: bytes) -> tuple[CodeKey, ...]:
    """The code that a record's deployments need; those that go away need none."""
    proto = stored_pb2.StoredApplication.FromString(record)
    return tuple((one.spec.name, one.spec.code_version) for one in proto.deployments if not one.dropped)


def application_from_record(
    record: bytes, code: Mapping[CodeKey, bytes]
) -> tuple[DesiredApplication, tuple[DesiredDeployment, ...]]:
    """An application and its deployments from its record.

    Args:
        code: by `code_keys`.
    """
    proto = stored_pb2.StoredApplication.FromString(record)
    specs = [_spec_from_proto(one, proto.spec.name, code) for one in proto.deployments]
    by_drop = list(zip(proto.deployments, specs, strict=True))
    spec = replace(
        application_from_proto(proto.spec), deployments=tuple(spec for one, spec in by_drop if not one.dropped)
    )
    dropped = tuple(spec for one, spec in by_drop if one.dropped)
    application = DesiredApplication(spec, proto.generation, proto.deployed_at_s, proto.deleting, dropped)
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


def _spec_from_proto(proto: stored_pb2.StoredDeployment, app: str, code: Mapping[CodeKey, bytes]) -> DeploymentSpec:
    spec = deployment_from_proto(proto.spec, app)
    return replace(spec, code=code.get((spec.id.name, spec.code_version), b""))
