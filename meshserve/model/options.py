"""What a deployment's author decides about how it runs.

Field names, meanings and defaults are those of the configuration file. Values here are already valid: `api`
and `schema` check what users write, everything inward trusts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = Any
"""A value that JSON can carry; typed loosely because users own its shape."""


@dataclass(frozen=True, slots=True)
class AutoscalingOptions:
    """When to change the number of replicas; see `core.autoscale`.

    Attributes:
        policy_function: import path of a user's policy; empty for the default.
        policy_pickle: the user's policy by cloudpickle as base64 text, when it cannot be imported elsewhere.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    initial_replicas: int | None = None
    target_ongoing_requests: float = 2.0
    metrics_interval_s: float = 10.0
    look_back_period_s: float = 30.0
    upscaling_factor: float | None = None
    downscaling_factor: float | None = None
    smoothing_factor: float = 1.0
    upscale_smoothing_factor: float | None = None
    downscale_smoothing_factor: float | None = None
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    downscale_to_zero_delay_s: float | None = None
    aggregation_function: str = "mean"
    policy_function: str = ""
    policy_pickle: str = ""
    policy_kwargs: Mapping[str, Json] = field(default_factory=dict)

    def get_upscaling_factor(self) -> float:
        """What multiplies missing replicas, by whichever of its names it was given."""
        return _first(self.upscaling_factor, self.upscale_smoothing_factor, self.smoothing_factor)

    def get_downscaling_factor(self) -> float:
        """What multiplies replicas that are too many, by whichever of its names it was given."""
        return _first(self.downscaling_factor, self.downscale_smoothing_factor, self.smoothing_factor)

    def get_target_ongoing_requests(self) -> float:
        """Calls, waiting and running, that each replica should have."""
        return self.target_ongoing_requests


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


@dataclass(frozen=True, slots=True)
class BackpressureOptions:
    """How an ingress answers when a queue is full."""

    status_code: int = 503
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """Which policy picks replicas.

    Attributes:
        request_router_class: a policy's name or an import path of a user's router; empty for the default.
        request_router_pickle: the user's class by cloudpickle as base64 text, when it has no import path.
    """

    request_router_class: str = ""
    request_router_pickle: str = ""
    request_router_kwargs: Mapping[str, Json] = field(default_factory=dict)
    request_routing_stats_period_s: float = 10.0
    request_routing_stats_timeout_s: float = 30.0
    initial_backoff_s: float = 0.025
    backoff_multiplier: float = 2.0
    max_backoff_s: float = 0.5


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """An actor of the user's that the replicas of a deployment share; see `core.deployment_actors`.

    Attributes:
        name: unique in the deployment.
        actor_class: import path of the class.
        class_pickle: the class by cloudpickle as base64 text; empty until the application is built.
        init_args: of its constructor.
        init_kwargs: the same by name.
        arguments_pickle: both by cloudpickle as base64 text, when JSON cannot carry them; they are empty then.
        actor_options: resources and runtime environment, in Ray's terms.
    """

    name: str
    actor_class: str
    class_pickle: str = ""
    init_args: tuple[Json, ...] = ()
    init_kwargs: Mapping[str, Json] = field(default_factory=dict)
    arguments_pickle: str = ""
    actor_options: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GangOptions:
    """Replicas that start and end together; see `core.gangs`.

    Attributes:
        gang_size: replicas of a gang.
        gang_placement_strategy: PACK or SPREAD, of a gang's placement group.
        runtime_failure_policy: what a replica that fails means for its gang; RESTART_GANG.
    """

    gang_size: int
    gang_placement_strategy: str = "PACK"
    runtime_failure_policy: str = "RESTART_GANG"


@dataclass(frozen=True, slots=True)
class DeploymentOptions:
    """All options of a deployment. Durations are seconds.

    Attributes:
        num_replicas: the fixed count; ignored while `autoscaling_config` is set.
        max_ongoing_requests: calls a replica accepts at a time.
        max_queued_requests: calls that may wait in one router; -1 for no limit.
        user_config: handed to the user's `reconfigure`; None for none.
        ray_actor_options: resources and runtime environment, in Ray's terms.
    """

    num_replicas: int = 1
    max_ongoing_requests: int = 5
    max_queued_requests: int = -1
    user_config: Json = None
    autoscaling_config: AutoscalingOptions | None = None
    backpressure_config: BackpressureOptions = field(default_factory=BackpressureOptions)
    request_router_config: RouterOptions = field(default_factory=RouterOptions)
    ray_actor_options: Mapping[str, Json] = field(default_factory=dict)
    placement_group_bundles: tuple[Mapping[str, float], ...] = ()
    placement_group_strategy: str = "PACK"
    placement_group_bundle_label_selector: tuple[Mapping[str, str], ...] = ()
    max_replicas_per_node: int | None = None
    graceful_shutdown_wait_loop_s: float = 2.0
    graceful_shutdown_timeout_s: float = 20.0
    health_check_period_s: float = 10.0
    health_check_timeout_s: float = 30.0
    max_constructor_retry_count: int = 20
    rolling_update_percentage: float = 0.2
    max_surge_percent: int = 0
    logging_config: Mapping[str, Json] | None = None
    deployment_actors: tuple[ActorOptions, ...] = ()
    gang_scheduling_config: GangOptions | None = None

    @property
    def gang_size(self) -> int:
        """How many replicas start and end together."""
        return self.gang_scheduling_config.gang_size if self.gang_scheduling_config is not None else 1


DEFAULTS = DeploymentOptions()
"""What holds of a deployment of which nothing is said."""
