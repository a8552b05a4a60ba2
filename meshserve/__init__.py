"""A gRPC-first serving mesh for Python models and services.

    import meshserve as serve

    @serve.deployment
    class Hello:
        def __call__(self, request):
            return "hello"

    serve.run(Hello.bind())

Everything public is here or in the modules `config`, `handle`, `exceptions`, `context`, `schema`, `grpc_util` and
`inference`.
Names are imported when they are first used: a replica that only needs the decorator does not pay for the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshserve.api.application import Application
    from meshserve.api.controller_options import ControllerOptions
    from meshserve.api.deploy import RunTarget
    from meshserve.api.deployment import Deployment, deployment
    from meshserve.api.handles import get_app_handle, get_deployment_handle
    from meshserve.api.ingress_options import HTTPOptions, gRPCOptions
    from meshserve.api.run import _run, _run_many, delete, run, run_many, shutdown, shutdown_async, start
    from meshserve.api.schema_logging import TracingConfig
    from meshserve.api.status import status
    from meshserve.client.connection import connect
    from meshserve.routing.handle import DeploymentHandle
    from meshserve.user.actor_context import get_deployment_actor_context
    from meshserve.user.batching import batch
    from meshserve.user.context import (
        ReplicaContext,
        get_multiplexed_model_id,
        get_replica_context,
        get_trace_context,
    )
    from meshserve.user.deployment_actors import get_deployment_actor
    from meshserve.user.ingress import ingress
    from meshserve.user.multiplex import multiplexed

_HOMES = {
    "meshserve.api.application": ("Application",),
    "meshserve.api.controller_options": ("ControllerOptions",),
    "meshserve.api.deployment": ("Deployment", "deployment"),
    "meshserve.api.deploy": ("RunTarget",),
    "meshserve.api.handles": ("get_app_handle", "get_deployment_handle"),
    "meshserve.api.ingress_options": ("HTTPOptions", "gRPCOptions"),
    "meshserve.api.run": ("_run", "_run_many", "delete", "run", "run_many", "shutdown", "shutdown_async", "start"),
    "meshserve.api.schema_logging": ("TracingConfig",),
    "meshserve.api.status": ("status",),
    "meshserve.client.connection": ("connect",),
    "meshserve.routing.handle": ("DeploymentHandle",),
    "meshserve.user.actor_context": ("get_deployment_actor_context",),
    "meshserve.user.batching": ("batch",),
    "meshserve.user.context": (
        "ReplicaContext",
        "get_multiplexed_model_id",
        "get_replica_context",
        "get_trace_context",
    ),
    "meshserve.user.deployment_actors": ("get_deployment_actor",),
    "meshserve.user.ingress": ("ingress",),
    "meshserve.user.multiplex": ("multiplexed",),
}
_MODULES = frozenset(
    {
        "autoscaling_policy",
        "batching",
        "config",
        "context",
        "dag",
        "drivers",
        "exceptions",
        "gang",
        "grpc_util",
        "handle",
        "http_adapters",
        "inference",
        "metrics",
        "multiplex",
        "request_router",
        "schema",
        "utils",
    }
)
"""Public modules, which programs may also name without having imported them: `serve.context`."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Application",
    "ControllerOptions",
    "Deployment",
    "DeploymentHandle",
    "HTTPOptions",
    "ReplicaContext",
    "RunTarget",
    "TracingConfig",
    "_run",
    "_run_many",
    "batch",
    "connect",
    "delete",
    "deployment",
    "gRPCOptions",
    "get_app_handle",
    "get_deployment_actor",
    "get_deployment_actor_context",
    "get_deployment_handle",
    "get_multiplexed_model_id",
    "get_replica_context",
    "get_trace_context",
    "ingress",
    "multiplexed",
    "run",
    "run_many",
    "shutdown",
    "shutdown_async",
    "start",
    "status",
]


def __getattr__(name: str) -> Any:
    """A public name, imported now and kept."""
    if name in _MODULES:
        return importlib.import_module(f"meshserve.{name}")
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'meshserve' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names, imported or not."""
    return sorted({*globals(), *__all__})


importlib.import_module("meshserve.deployment")
del globals()[
    "deployment"
]  # an import names a package's modules in it, the first time; here the decorator has the name
