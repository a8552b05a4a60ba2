"""The options of a deployment as users write them, checked and turned into what the mesh acts on.

Each option has one reader in `READERS`: from what was written to the value of the same field of `DeploymentOptions`.
What several options decide together is checked afterwards.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from meshserve.api.actor_options import (
    check_fit,
    checked_actor_options,
    checked_bundles,
    checked_selector,
    checked_strategy,
)
from meshserve.api.autoscaling_config import AutoscalingConfig, automatic
from meshserve.api.checks import config, json_value, read_integer, read_number
from meshserve.api.config_class import validation_error
from meshserve.api.deployment_actors import check_environment, read_actors
from meshserve.api.gang_config import GangSchedulingConfig, check_gangs
from meshserve.api.logging_config import LoggingConfig
from meshserve.api.router_config import BackpressureConfig, RequestRouterConfig
from meshserve.model.options import DeploymentOptions

logger = logging.getLogger("meshserve")

_NEEDS_BUNDLES = "If `{}` is provided, `placement_group_bundles` must also be provided."

_RAYS_OWN = (
    "ray_actor_options",
    "placement_group_bundles",
    "placement_group_strategy",
    "placement_group_bundle_label_selector",
    "max_replicas_per_node",
)
"""Options that are Ray's, with the errors that Ray has for them."""

AUTO = "auto"
"""As `num_replicas`: between 1 and 100, as load requires."""


def read_options(before: DeploymentOptions, changes: Mapping[str, Any]) -> DeploymentOptions:
    """Options with changes that a user wrote.

    Args:
        before: the options so far.
        changes: option -> what was written.

    Raises:
        ValidationError: an option is of the wrong type or out of its range; its cause says so.
        TypeError: what Ray is asked for is of the wrong type.
        ValueError: what Ray is asked for cannot be, or two options contradict each other.
    """
    _refuse_contradictions(changes)
    values = _with_replicas(dict(changes))
    read = {name: _read(name, value) for name, value in values.items()}
    options = replace(before, **read)
    # The default strategy counts only where it is written down.
    strategy = changes.get("placement_group_strategy") is not None or options.placement_group_strategy != "PACK"
    check_gangs(options, strategy)
    _check_placement(options, strategy)
    check_environment(options)
    if {"autoscaling_config", "max_ongoing_requests"} & values.keys():
        _warn_of_target(options)
    return options


def _read(name: str, value: Any) -> Any:
    try:
        return READERS[name](value)
    except (TypeError, ValueError) as error:
        if name in _RAYS_OWN:
            raise
        raise validation_error("Deployment", error, {name: value}, name) from error


def _warn_of_target(options: DeploymentOptions) -> None:
    auto = options.autoscaling_config
    if auto is not None and auto.target_ongoing_requests > options.max_ongoing_requests:
        logger.warning(
            "target_ongoing_requests (%g) is above max_ongoing_requests (%d): replicas never have so many, and none is "
            "added before calls wait. Set it to max_ongoing_requests or less.",
            auto.target_ongoing_requests,
            options.max_ongoing_requests,
        )


def _refuse_contradictions(changes: Mapping[str, Any]) -> None:
    count, autoscaling = changes.get("num_replicas"), changes.get("autoscaling_config")
    if count not in (None, AUTO) and autoscaling is not None:
        raise ValueError(
            "Manually setting num_replicas is not allowed when autoscaling_config is provided. "
            f"Leave num_replicas={count} out, or write num_replicas='auto'."
        )


def _with_replicas(changes: dict[str, Any]) -> dict[str, Any]:
    """`num_replicas` and `autoscaling_config` decide one thing: the one written last for a deployment counts."""
    count = changes.get("num_replicas")
    if count == AUTO:
        changes["autoscaling_config"] = automatic(changes.get("autoscaling_config"))
        changes["num_replicas"] = None
    elif count is not None:
        changes["autoscaling_config"] = None
    return changes


def _check_placement(options: DeploymentOptions, strategy: bool) -> None:
    bundles, selector = options.placement_group_bundles, options.placement_group_bundle_label_selector
    if not bundles:
        if strategy:
            raise ValueError(_NEEDS_BUNDLES.format("placement_group_strategy"))
        if selector:
            raise ValueError(_NEEDS_BUNDLES.format("placement_group_bundle_label_selector"))
        return
    if options.max_replicas_per_node is not None:
        raise ValueError("Setting max_replicas_per_node is not allowed when placement_group_bundles is provided.")
    if len(selector) not in (0, 1, len(bundles)):
        raise ValueError(
            f"placement_group_bundle_label_selector must have one entry for all bundles, or one for each of "
            f"the {len(bundles)}; it has {len(selector)}."
        )
    check_fit(options.ray_actor_options or {"num_cpus": 1}, bundles)


def _num_replicas(value: Any) -> int:
    if value is None:
        return 1
    if isinstance(value, str) and not value.strip().lstrip("+-").isdigit():
        raise ValueError(f"num_replicas must be a number or 'auto', not {value!r}.")
    return read_integer("num_replicas", value, 1)


def _max_ongoing(value: Any) -> int:
    if value is None:
        raise ValueError("`max_ongoing_requests` must be non-null, got None.")
    return read_integer("max_ongoing_requests", value, 1)


def _max_queued(value: Any) -> int:
    limit = read_integer("max_queued_requests", value, -sys.maxsize)
    if limit < -1 or limit == 0:
        raise ValueError(f"max_queued_requests must be -1 (no limit) or a positive integer, not {value}.")
    return limit


def _autoscaling(value: Any) -> Any:
    return None if value is None else config("autoscaling_config", value, AutoscalingConfig).to_options()


def _backpressure(value: Any) -> Any:
    return config("backpressure_config", {} if value is None else value, BackpressureConfig).to_options()


def _router(value: Any) -> Any:
    return config("request_router_config", {} if value is None else value, RequestRouterConfig).to_options()


def _gangs(value: Any) -> Any:
    return None if value is None else config("gang_scheduling_config", value, GangSchedulingConfig).to_options()


def _logging(value: Any) -> dict[str, Any] | None:
    return None if value is None else config("logging_config", value, LoggingConfig).to_json()


def _per_node(value: Any) -> int | None:
    wanted = "None or an integer in the range of [1, 100]"
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"Get invalid type {type(value).__name__!r} for max_replicas_per_node. Expected {wanted}.")
    if value is not None and not 1 <= value <= 100:
        raise ValueError(f"Invalid max_replicas_per_node {value}. Valid values are {wanted}.")
    return value


def _rolling(value: Any) -> float:
    share = read_number("rolling_update_percentage", value, above=0)
    if share > 1:
        raise ValueError(f"rolling_update_percentage is a share, above 0 and at most 1, not {share:g}.")
    return share


def _above_zero(name: str) -> Callable[[Any], float]:
    return lambda value: read_number(name, value, above=0)


def _not_negative(name: str) -> Callable[[Any], float]:
    return lambda value: read_number(name, value, least=0)


READERS: Mapping[str, Callable[[Any], Any]] = {
    "num_replicas": _num_replicas,
    "max_ongoing_requests": _max_ongoing,
    "max_queued_requests": _max_queued,
    "user_config": lambda value: json_value("user_config", value),
    "autoscaling_config": _autoscaling,
    "backpressure_config": _backpressure,
    "request_router_config": _router,
    "ray_actor_options": checked_actor_options,
    "placement_group_bundles": checked_bundles,
    "placement_group_strategy": checked_strategy,
    "placement_group_bundle_label_selector": checked_selector,
    "max_replicas_per_node": _per_node,
    "graceful_shutdown_wait_loop_s": _not_negative("graceful_shutdown_wait_loop_s"),
    "graceful_shutdown_timeout_s": _not_negative("graceful_shutdown_timeout_s"),
    "health_check_period_s": _above_zero("health_check_period_s"),
    "health_check_timeout_s": _above_zero("health_check_timeout_s"),
    "max_constructor_retry_count": lambda value: read_integer("max_constructor_retry_count", value, 1),
    "rolling_update_percentage": _rolling,
    "max_surge_percent": lambda value: read_integer("max_surge_percent", value, 0, 100),
    "logging_config": _logging,
    "gang_scheduling_config": _gangs,
    "deployment_actors": read_actors,
}
"""Option -> from what a user wrote to the value of the field of the same name. Adding an option is adding a line."""
