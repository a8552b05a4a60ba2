"""Deployment options <-> JSON text, the form in which they cross processes and lie in the store."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from meshserve.model.options import (
    ActorOptions,
    AutoscalingOptions,
    BackpressureOptions,
    DeploymentOptions,
    GangOptions,
    RouterOptions,
)


def options_to_json(options: DeploymentOptions) -> str:
    """Writes all options, sorted, so that equal options give equal text."""
    return json.dumps(asdict(options), sort_keys=True)


@lru_cache(maxsize=4096)
def options_from_json(text: str) -> DeploymentOptions:
    """Reads what `options_to_json` wrote; absent fields keep their defaults.

    Raises:
        TypeError: a field is unknown.
        ValueError: the text is not a JSON object.
    """
    data: dict[str, Any] = json.loads(text) if text else {}
    if data.get("autoscaling_config") is not None:
        data["autoscaling_config"] = AutoscalingOptions(**data["autoscaling_config"])
    if "backpressure_config" in data:
        data["backpressure_config"] = BackpressureOptions(**(data["backpressure_config"] or {}))
    if "request_router_config" in data:
        data["request_router_config"] = RouterOptions(**(data["request_router_config"] or {}))
    if data.get("gang_scheduling_config") is not None:
        data["gang_scheduling_config"] = GangOptions(**data["gang_scheduling_config"])
    for name in ("placement_group_bundles", "placement_group_bundle_label_selector"):
        if name in data:
            data[name] = tuple(data[name] or ())
    if "deployment_actors" in data:
        data["deployment_actors"] = tuple(_actor(one) for one in data["deployment_actors"] or ())
    return DeploymentOptions(**data)


def _actor(data: dict[str, Any]) -> ActorOptions:
    return ActorOptions(**{**data, "init_args": tuple(data.get("init_args", ()))})
