"""Configuration files, understood: the implementation of what the controller asks (`controller.declarations`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from pydantic import ValidationError

from meshserve.api.checks import config
from meshserve.api.ingress_options import HTTPOptions, gRPCOptions
from meshserve.api.logging_config import LoggingConfig
from meshserve.api.merging import merged
from meshserve.api.named_objects import named_by
from meshserve.api.schema_application import ServeApplicationSchema
from meshserve.api.schema_file import ServeDeploySchema
from meshserve.api.tracing_config import tracing_text
from meshserve.api.validation import mistakes
from meshserve.model.control import ApplicationSpec, Build, Declared, ProxyOptions
from meshserve.model.declared import Declaration
from meshserve.settings import Settings

build_entry = "meshserve.api.build_process:build_application"


def read(config_json: str, import_paths: Sequence[str] = (), revision: str = "") -> Declared:
    """See `controller.declarations.Declarations`; raises ValueError with every mistake and its path."""
    try:
        file = ServeDeploySchema.model_validate_json(config_json)
    except ValidationError as error:
        raise ValueError(" ".join(f"{mistake}." for mistake in mistakes(error))) from error
    plain = file.model_dump(mode="json", exclude_unset=True)
    entries = zip(file.applications, plain["applications"], strict=True)
    return Declared(
        json.dumps(plain),
        tuple(_declaration(schema, entry, tuple(import_paths), revision) for schema, entry in entries),
        proxies_of(file),
        file.target_capacity,
    )


def _declaration(
    schema: ServeApplicationSchema, entry: dict[str, Any], import_paths: tuple[str, ...], revision: str
) -> Declaration:
    source = [schema.import_path, schema.args, schema.runtime_env, sorted(named_by(schema)), revision]
    code_key = blake2b(json.dumps(source, sort_keys=True).encode(), digest_size=8).hexdigest()
    # Where a deployment stands in the list says nothing.
    entry = {**entry, "deployments": sorted(entry.get("deployments", ()), key=lambda one: str(one["name"]))}
    text = json.dumps({name: value for name, value in entry.items() if value != []}, sort_keys=True)
    return Declaration(schema.name, text, import_paths, code_key, schema.route_prefix)


def proxies_of(file: ServeDeploySchema) -> ProxyOptions:
    """How the file wants proxies to be started. What it names by import paths is imported by the proxies."""
    http = config("http_options", file.http_options.known(), HTTPOptions)
    known = file.grpc_options.known()
    named = {name: known.pop(name) for name in ("grpc_servicer_functions", "interceptors") if name in known}
    grpc = json.loads(config("grpc_options", known, gRPCOptions).to_json(http.host))
    log = file.logging_config
    return ProxyOptions(
        str(file.proxy_location),
        http.to_json(),
        json.dumps({**grpc, **named}),
        "" if log is None else config("logging_config", log, LoggingConfig).to_text(),
        tracing_text(file.tracing_config),
        Settings.from_environment().proxy_min_drain_s,
    )


def runtime_env(declaration: Declaration) -> dict[str, object]:
    """The environment that an application is built in."""
    return dict(_schema(declaration).runtime_env)


def merge(build: Build, declaration: Declaration) -> ApplicationSpec:
    """See `merging.merged`."""
    return merged(build, _schema(declaration), declaration.import_paths)


def _schema(declaration: Declaration) -> ServeApplicationSchema:
    return ServeApplicationSchema.model_validate_json(declaration.config_json)
