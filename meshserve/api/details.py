"""All that is known of the mesh, for programs."""

from __future__ import annotations

import json
from typing import Any

from meshserve.api.client import client, wait_for
from meshserve.api.schema_details import ServeInstanceDetails
from meshserve.api.schema_export import full_entry_of
from meshserve.model.options import DeploymentOptions
from meshserve.wire.options import options_from_json

_RESOURCES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}


def instance_details() -> ServeInstanceDetails:
    """The mesh that this program is connected to."""

    async def ask() -> tuple[dict[str, Any], str]:
        controller = client()
        return await controller.details(), await controller.config()

    return details_of(*wait_for(ask()))


def details_of(plain: dict[str, Any], config_json: str) -> ServeInstanceDetails:
    """The details of what `wire.details` tells.

    Args:
        config_json: the configuration file in force; empty for none.
    """
    file = json.loads(config_json or "{}")
    entries = {entry.get("name", "default"): entry for entry in file.get("applications", ())}
    for name, application in plain["applications"].items():
        entry = application["deployed_app_config"] = entries.get(name)
        application["external_scaler_enabled"] = bool(entry and entry.get("external_scaler_enabled"))
        for own, deployment in application["deployments"].items():
            options = options_from_json(json.dumps(deployment.pop("options")))
            deployment["deployment_config"] = full_entry_of(own, options)
            deployment["required_resources"] = _resources(options)
    fields = {name: file[name] for name in ("proxy_location", "http_options", "grpc_options") if name in file}
    return ServeInstanceDetails.model_validate({**plain, **fields})


def _resources(options: DeploymentOptions) -> dict[str, Any]:
    actor = {"num_cpus": 1, **options.ray_actor_options}
    named = {shown: actor[name] for name, shown in _RESOURCES.items() if actor.get(name)}
    return {**named, **(actor.get("resources") or {})}
