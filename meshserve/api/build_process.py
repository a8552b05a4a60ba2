"""The process that builds a declared application: started in the application's environment, builds once, ends."""

from __future__ import annotations

import sys
from dataclasses import replace

import cloudpickle

from meshserve.api.builder import application_of
from meshserve.api.graph import Run, build
from meshserve.api.router_config import RequestRouterConfig
from meshserve.api.schema_application import ServeApplicationSchema
from meshserve.api.user_traceback import users_text
from meshserve.model.control import ApplicationSpec
from meshserve.routing.policies import policy_name
from meshserve.rpc.import_path import import_from, import_object
from meshserve.v1 import build_pb2
from meshserve.wire.application import application_to_proto


def build_application(request: bytes) -> bytes:
    """Imports and builds; from a BuildRequest to a BuildResponse (build.proto)."""
    asked = build_pb2.BuildRequest.FromString(request)
    schema = ServeApplicationSchema.model_validate_json(asked.config_json)
    import_from(asked.import_paths)
    try:
        spec, routers = _build(schema, asked.code_version), _routers(schema)
    except Exception as error:  # noqa: BLE001 - modules of users may raise anything, and it is for them to see
        failure = f"Application {schema.name!r} could not be built from {schema.import_path}.\n{users_text(error)}"
        return build_pb2.BuildResponse(failure=failure).SerializeToString()
    spec = replace(spec, import_paths=tuple(asked.import_paths))
    return build_pb2.BuildResponse(spec=application_to_proto(spec), routers=routers).SerializeToString()


def _build(schema: ServeApplicationSchema, code_version: str) -> ApplicationSpec:
    application = application_of(import_object(schema.import_path), schema.args)
    return build(application, Run(schema.name, code_version=code_version))


def _routers(schema: ServeApplicationSchema) -> dict[str, str]:
    """The request routers that the file names, by value: proxies and other callers do not have their modules."""
    found = {}
    for deployment in schema.deployments:
        written = deployment.overrides().get("request_router_config")
        path = str(written.get("request_router_class", "")) if isinstance(written, dict) else ""
        if path and policy_name(path) is None:
            module = sys.modules[import_object(path).__module__]
            cloudpickle.register_pickle_by_value(module)
            found[path] = (
                RequestRouterConfig(request_router_class=import_object(path)).to_options().request_router_pickle
            )
            cloudpickle.unregister_pickle_by_value(module)
    return found
