"""The process that builds a declared application: started in the application's environment, builds once, ends."""

from __future__ import annotations

from dataclasses import replace

from meshserve.api.builder import application_of
from meshserve.api.graph import Run, build
from meshserve.api.named_objects import named_by, named_by_value
from meshserve.api.schema_application import ServeApplicationSchema
from meshserve.api.user_traceback import users_text
from meshserve.model.control import ApplicationSpec
from meshserve.rpc.import_path import import_from, import_object
from meshserve.v1 import build_pb2
from meshserve.wire.application import application_to_proto


def build_application(request: bytes) -> bytes:
    """Imports and builds; from a BuildRequest to a BuildResponse (build.proto)."""
    asked = build_pb2.BuildRequest.FromString(request)
    schema = ServeApplicationSchema.model_validate_json(asked.config_json)
    import_from(asked.import_paths)
    try:
        spec = _build(schema, asked.code_version)
        named = {path: named_by_value(path) for path in named_by(schema)}
    except Exception as error:  # noqa: BLE001 - modules of users may raise anything, and it is for them to see
        failure = f"Application {schema.name!r} could not be built from {schema.import_path}.\n{users_text(error)}"
        return build_pb2.BuildResponse(failure=failure).SerializeToString()
    spec = replace(spec, import_paths=tuple(asked.import_paths))
    return build_pb2.BuildResponse(spec=application_to_proto(spec), by_value=named).SerializeToString()


def _build(schema: ServeApplicationSchema, code_version: str) -> ApplicationSpec:
    application = application_of(import_object(schema.import_path), schema.args)
    return build(application, Run(schema.name, code_version=code_version))
