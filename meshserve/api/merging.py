"""An application of code and a configuration file: the file goes before the code, the code before the defaults."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from meshserve.api.autoscaling_config import AutoscalingConfig, AutoscalingPolicy
from meshserve.api.checks import config
from meshserve.api.deployment_actors import check_environment, read_actors
from meshserve.api.logging_config import LoggingConfig
from meshserve.api.options import AUTO, read_options
from meshserve.api.router_config import RequestRouterConfig
from meshserve.api.schema_application import ServeApplicationSchema
from meshserve.model.control import ApplicationSpec, Build, DeploymentSpec, Source
from meshserve.model.options import ActorOptions, AutoscalingOptions, DeploymentOptions, RouterOptions


def merged(build: Build, schema: ServeApplicationSchema, import_paths: tuple[str, ...]) -> ApplicationSpec:
    """The application to run.

    Args:
        build: the application as its code describes it; has succeeded.
        schema: what the file says of it.

    Raises:
        ValueError: the file names a deployment that the code does not have, or options do not go together.
    """
    base = build.base
    assert base is not None  # it has succeeded
    overrides = {one.name: _with_named(one.overrides(), build.by_value) for one in schema.deployments}
    _check_names(base, overrides)
    spec = replace(
        base,
        deployments=tuple(_deployment(one, overrides.get(one.id.name, {}), schema) for one in base.deployments),
        route_prefix=schema.route_prefix if "route_prefix" in schema.model_fields_set else base.route_prefix,
        external_scaler_enabled=schema.external_scaler_enabled,
        import_paths=import_paths,
        source=Source.DECLARATIVE,
        logging_config_json=_logging(schema),
        autoscaling_policy_json=_policy(schema.autoscaling_policy, build.by_value),
    )
    scaled = [one.id.name for one in spec.deployments if one.options.autoscaling_config is not None]
    if spec.external_scaler_enabled and scaled:
        raise ValueError(
            f"external_scaler_enabled leaves the numbers of replicas to somebody else, but the code of {scaled[0]!r} "
            "has an autoscaling_config: set its num_replicas here, or leave external_scaler_enabled out."
        )
    return spec


def _check_names(base: ApplicationSpec, overrides: Mapping[str, Any]) -> None:
    known = [one.id.name for one in base.deployments]
    for name in overrides:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"Deployment '{name}' does not exist.{hint} Application {base.name!r} has: {', '.join(known)}."
            )


def _deployment(spec: DeploymentSpec, overrides: dict[str, Any], schema: ServeApplicationSchema) -> DeploymentSpec:
    try:
        options = _options(spec.options, overrides)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Deployment {spec.id.name!r}: {error.__cause__ or error}") from error
    actor = dict(options.ray_actor_options)
    if environment := merged_environment(schema.runtime_env, actor.get("runtime_env") or {}):
        actor["runtime_env"] = environment
    options = replace(options, ray_actor_options=actor)
    check_environment(options)
    logging_config = options.logging_config
    if logging_config is None and schema.logging_config is not None:
        logging_config = json.loads(_logging(schema))
    return replace(spec, options=replace(options, logging_config=logging_config))


def _options(base: DeploymentOptions, overrides: dict[str, Any]) -> DeploymentOptions:
    changes = dict(overrides)
    router = changes.pop("request_router_config", base.request_router_config)
    if changes.get("num_replicas") == AUTO and base.autoscaling_config is not None:
        changes.setdefault("autoscaling_config", AutoscalingConfig.of_options(base.autoscaling_config))
    return replace(read_options(base, changes), request_router_config=router)


def _with_named(overrides: dict[str, Any], by_value: Mapping[str, str]) -> dict[str, Any]:
    """The overrides with routers, policies and actors as the mesh wants them: what they name is not imported here."""
    known = {name: value for name, value in overrides.items() if name != "request_router_config"}
    router, scaling = overrides.get("request_router_config"), overrides.get("autoscaling_config")
    if isinstance(router, Mapping):
        known["request_router_config"] = _router(router, by_value)
    policy = scaling.get("policy") if isinstance(scaling, Mapping) else None
    if isinstance(policy, Mapping) and policy.get("policy_function") in by_value:
        known["autoscaling_config"] = {**(scaling or {}), "policy": _scaling_policy(policy, by_value)}
    if overrides.get("deployment_actors"):
        known["deployment_actors"] = _actors(overrides["deployment_actors"], by_value)
    return known


def _actors(written: Any, by_value: Mapping[str, str]) -> tuple[ActorOptions, ...]:
    return tuple(replace(one, class_pickle=by_value.get(one.actor_class, "")) for one in read_actors(written))


def _router(written: Mapping[str, Any], by_value: Mapping[str, str]) -> RouterOptions:
    others = {name: value for name, value in written.items() if name != "request_router_class"}
    options = config("request_router_config", others, RequestRouterConfig).to_options()
    path = str(written.get("request_router_class", ""))
    return replace(options, request_router_class=path, request_router_pickle=by_value.get(path, ""))


def _scaling_policy(written: Mapping[str, Any], by_value: Mapping[str, str]) -> AutoscalingPolicy:
    path = str(written["policy_function"])
    kwargs = dict(written.get("policy_kwargs") or {})
    return AutoscalingPolicy.of_options(
        AutoscalingOptions(policy_function=path, policy_kwargs=kwargs, policy_pickle=by_value[path])
    )


def _policy(written: Mapping[str, Any] | None, by_value: Mapping[str, str]) -> str:
    """The policy of the whole application as JSON text; empty for none."""
    if written is None:
        return ""
    return json.dumps({**written, "policy_pickle": by_value.get(str(written["policy_function"]), "")})


def _logging(schema: ServeApplicationSchema) -> str:
    if schema.logging_config is None:
        return ""
    return config("logging_config", schema.logging_config, LoggingConfig).to_text()


def merged_environment(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """Two runtime environments as one: the inner one's fields go before, `env_vars` are put together."""
    environment = {**outer, **inner}
    variables = {**(outer.get("env_vars") or {}), **(inner.get("env_vars") or {})}
    return {**environment, "env_vars": variables} if variables else environment
