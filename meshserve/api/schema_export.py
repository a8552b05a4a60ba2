"""From code to a configuration file: the options that the author of a deployment wrote, as an entry of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from enum import StrEnum
from typing import Any

from meshserve.api.autoscaling_config import AutoscalingConfig
from meshserve.api.deployment import Deployment
from meshserve.api.deployment_actors import as_written
from meshserve.api.schema_deployment import DeploymentSchema
from meshserve.model.options import BackpressureOptions, DeploymentOptions, GangOptions, RouterOptions

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


def full_entry_of(name: str, options: DeploymentOptions) -> dict[str, Any]:
    """An entry with all options of a deployment that runs, defaults too; those that are not set are left out."""
    entry: dict[str, Any] = {"name": name}
    if options.autoscaling_config is not None:
        entry["autoscaling_config"] = _autoscaling(AutoscalingConfig.of_options(options.autoscaling_config))
    else:
        entry["num_replicas"] = options.num_replicas
    names = {one.name for one in fields(options)} & set(DeploymentSchema.model_fields) - _NOT_IN_FILES
    if not options.placement_group_bundles:
        names -= {"placement_group_bundles", "placement_group_strategy", "placement_group_bundle_label_selector"}
    if options.gang_scheduling_config is not None:
        names -= {"placement_group_strategy"}
    for own in sorted(names):
        value = _plain(own, getattr(options, own))
        if value not in (None, []):
            entry[own] = value
    return entry


def _replicas(deployment: Deployment) -> dict[str, Any]:
    options, written = deployment._options, deployment.user_configured_option_names
    auto = options.autoscaling_config
    if auto is None:
        return {"num_replicas": options.num_replicas} if "num_replicas" in written else {}
    if auto.policy_pickle:
        return {}  # the policy is in the code, and a file would replace it with all the rest
    config = _changed(_autoscaling(AutoscalingConfig.of_options(auto)), _autoscaling(AutoscalingConfig()))
    return {"autoscaling_config": {**config, "min_replicas": auto.min_replicas, "max_replicas": auto.max_replicas}}


def _autoscaling(config: AutoscalingConfig) -> dict[str, Any]:
    """All its fields as they are written in a file."""
    plain = asdict(config)
    plain["policy"] = {name: plain["policy"][name] for name in ("policy_function", "policy_kwargs")}
    return {name: str(value) if isinstance(value, StrEnum) else value for name, value in plain.items()}


def _plain(name: str, value: Any) -> Any:
    """The value of an option as it is written in a file; None for one that cannot be."""
    if isinstance(value, RouterOptions):
        if value.request_router_pickle:
            return None  # the class is in the code, and stays there
        return _changed(asdict(value), asdict(RouterOptions()))
    if isinstance(value, BackpressureOptions | GangOptions):
        return asdict(value)
    if name == "deployment_actors":
        return as_written(value)
    return list(value) if isinstance(value, tuple) else value


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != defaults.get(name)}
