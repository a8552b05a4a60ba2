"""The options a user may write for a deployment, for type checkers; `options` checks their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from meshserve.api.autoscaling_config import AutoscalingConfig
from meshserve.api.deployment_actors import DeploymentActorConfig
from meshserve.api.gang_config import GangSchedulingConfig
from meshserve.api.logging_config import LoggingConfig
from meshserve.api.router_config import BackpressureConfig, RequestRouterConfig
from meshserve.model.options import Json


class OptionChanges(TypedDict, total=False):
    """Options of `Deployment.options`. Durations are seconds."""

    num_replicas: int | str | None
    ray_actor_options: Mapping[str, Any] | None
    placement_group_bundles: Sequence[Mapping[str, float]] | None
    placement_group_strategy: str | None
    placement_group_bundle_label_selector: Sequence[Mapping[str, str]] | None
    max_replicas_per_node: int | None
    user_config: Json
    max_ongoing_requests: int
    max_queued_requests: int
    backpressure_config: BackpressureConfig | Mapping[str, Any] | None
    autoscaling_config: AutoscalingConfig | Mapping[str, Any] | None
    graceful_shutdown_wait_loop_s: float
    graceful_shutdown_timeout_s: float
    health_check_period_s: float
    health_check_timeout_s: float
    logging_config: LoggingConfig | Mapping[str, Any] | None
    request_router_config: RequestRouterConfig | Mapping[str, Any] | None
    max_constructor_retry_count: int
    gang_scheduling_config: GangSchedulingConfig | Mapping[str, Any] | None
    max_surge_percent: int
    deployment_actors: Sequence[DeploymentActorConfig | Mapping[str, Any]] | None


class DecoratorOptions(OptionChanges, total=False):
    """Options of `@deployment`."""

    rolling_update_percentage: float
