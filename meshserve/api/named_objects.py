"""What a configuration file names by import paths, besides the application: routers, policies, classes of actors.

They run in proxies, callers, the controller and processes of their own, where the application's modules need not be. So
they are imported where the application is built, and travel by value.
"""

from __future__ import annotations

from meshserve.api.autoscaling_config import AutoscalingPolicy
from meshserve.api.by_value import by_value
from meshserve.api.schema_application import ServeApplicationSchema
from meshserve.routing.policies import policy_name
from meshserve.rpc.import_path import import_object


def named_by(schema: ServeApplicationSchema) -> set[str]:
    """The import paths that an application's entry names; those of built-in routers and policies are not among them."""
    written = [one.overrides() for one in schema.deployments]
    routers = [_of(one.get("request_router_config"), "request_router_class") for one in written]
    policies = [_of(_of(one.get("autoscaling_config"), "policy"), "policy_function") for one in written]
    policies.append(_of(schema.autoscaling_policy, "policy_function"))
    actors = [actor for one in written for actor in one.get("deployment_actors") or ()]
    classes = {_of(actor, "actor_class") for actor in actors}
    paths = {path for path in routers if isinstance(path, str) and path and policy_name(path) is None}
    paths |= {path for path in classes if isinstance(path, str)}
    return paths | {path for path in policies if isinstance(path, str) and AutoscalingPolicy(path).policy_function}


def _of(config: object, name: str) -> object:
    return config.get(name) if isinstance(config, dict) else None


def named_by_value(path: str) -> str:
    """What a path names, by cloudpickle as base64 text; raises what importing it raises."""
    found = import_object(path)
    # The module of a class that `@ray.remote` has decorated is that of the class.
    return by_value(found, getattr(found, "__ray_actor_class__", found).__module__)
