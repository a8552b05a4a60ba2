"""From code to a configuration file: the options that the author of a deployment wrote, as an entry of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from meshserve.api.autoscaling_config import AutoscalingConfig
from meshserve.api.deployment import Deployment
from meshserve.api.schema_deployment import DeploymentSchema
from meshserve.model.options import AutoscalingOptions, DeploymentOptions, RouterOptions

_NOT_IN_FILES = frozenset({"max_constructor_retry_count", "num_replicas", "autoscaling_config"})
"""What a file has no field for, and what is written by `_replicas`."""


def entry_of(name: str, deployment: Deployment) -> dict[str, Any]:
    """The entry of a deployment: what its author wrote, and nothing that is a default."""
    options: DeploymentOptions = deployment._options
    written = deployment.user_configured_option_names - _NOT_IN_FILES
    entry = {"name": name, **_replicas(deployment)}
    for one in fields(options):
        if one.name in written and (value := _plain(one.name, getattr(options, one.name))) is not None:
            entry[one.name] = value
    DeploymentSchema.model_validate(entry)
    return entry


def _replicas(deployment: Deployment) -> dict[str, Any]:
    options, written = deployment._options, deployment.user_configured_option_names
    if options.autoscaling_config is not None:
        return {"autoscaling_config": _autoscaling(options.autoscaling_config)}
    return {"num_replicas": options.num_replicas} if "num_replicas" in written else {}


def _autoscaling(options: AutoscalingOptions) -> dict[str, Any]:
    config = _changed(asdict(AutoscalingConfig.of_options(options)), asdict(AutoscalingConfig()))
    return {**config, "min_replicas": options.min_replicas, "max_replicas": options.max_replicas}


def _plain(name: str, value: Any) -> Any:
    """The value of an option as it is written in a file; None for one that cannot be."""
    if isinstance(value, RouterOptions):
        if value.request_router_pickle:
            return None  # the class is in the code, and stays there
        return _changed(asdict(value), asdict(RouterOptions()))
    if name == "backpressure_config":
        return asdict(value)
    return list(value) if isinstance(value, tuple) else value


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != defaults.get(name)}
