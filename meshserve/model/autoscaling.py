"""What an autoscaling policy is told of a deployment, and the shape of its answer.

These names are what users of this programming model write policies against; `core.autoscale` fills them in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.options import AutoscalingOptions


class TimeStampedValue(NamedTuple):
    """A measurement: `value` held from `timestamp` (seconds) until the next one."""

    timestamp: float
    value: float


@dataclass(frozen=True, slots=True)
class AutoscalingContext:
    """One deployment at one instant. Times are seconds on one clock; for policies of users, since the epoch.

    Attributes:
        deployment_id: whom this is about.
        current_num_replicas: replicas that run.
        target_num_replicas: replicas that are wanted now.
        running_replicas: those that run.
        total_num_requests: calls waiting in routers and calls at replicas, over the look-back window.
        total_queued_requests: the part of them that waits in routers.
        aggregated_metrics: name -> replica -> value over the window, of what `record_autoscaling_stats` returned.
        raw_metrics: name -> replica -> measurements, oldest first.
        capacity_adjusted_min_replicas: the lower bound in force, target capacity included.
        capacity_adjusted_max_replicas: the upper bound in force, target capacity included.
        policy_state: what the policy returned as its state the last time; empty at first.
        last_scale_up_time: when the target was last raised, or None.
        last_scale_down_time: when the target was last lowered, or None.
        current_time: now.
        config: the deployment's autoscaling options.
        deployment_name: the deployment's name.
        app_name: the application's name.
        gang_size: replicas that start and end together; the number wanted is rounded up to whole gangs.
    """

    deployment_id: DeploymentId
    current_num_replicas: int
    target_num_replicas: int
    config: AutoscalingOptions = field(default_factory=AutoscalingOptions)
    running_replicas: tuple[ReplicaId, ...] = ()
    total_num_requests: float = 0.0
    total_queued_requests: float = 0.0
    aggregated_metrics: Mapping[str, Mapping[ReplicaId, float]] = field(default_factory=dict)
    raw_metrics: Mapping[str, Mapping[ReplicaId, Sequence[TimeStampedValue]]] = field(default_factory=dict)
    capacity_adjusted_min_replicas: int = 1
    capacity_adjusted_max_replicas: int = 1
    policy_state: Mapping[str, Any] = field(default_factory=dict)
    last_scale_up_time: float | None = None
    last_scale_down_time: float | None = None
    current_time: float = 0.0
    deployment_name: str = ""
    app_name: str = ""
    gang_size: int = 1

    def __post_init__(self) -> None:
        # Fields all the same: those who test a policy of their own write a context with all its names.
        object.__setattr__(self, "deployment_name", self.deployment_name or self.deployment_id.name)
        object.__setattr__(self, "app_name", self.app_name or self.deployment_id.app)

    def shifted(self, by_s: float) -> AutoscalingContext:
        """The same on a clock that is ahead by so many seconds."""
        raw = {
            name: {
                replica: tuple(TimeStampedValue(at + by_s, value) for at, value in series)
                for replica, series in of_metric.items()
            }
            for name, of_metric in self.raw_metrics.items()
        }
        return replace(
            self,
            current_time=self.current_time + by_s,
            last_scale_up_time=None if self.last_scale_up_time is None else self.last_scale_up_time + by_s,
            last_scale_down_time=None if self.last_scale_down_time is None else self.last_scale_down_time + by_s,
            raw_metrics=raw,
        )

    @property
    def total_running_requests(self) -> float:
        """Calls at replicas, over the window."""
        return max(0.0, self.total_num_requests - self.total_queued_requests)


PolicyState: TypeAlias = Mapping[str, Any]
"""What a policy remembers between its calls; lost when the controller restarts or the deployment is set anew."""

Policy: TypeAlias = Callable[[AutoscalingContext], tuple[float, PolicyState | None]]
"""The number of replicas wanted for a deployment (a fraction is rounded up), and the policy's new state."""

ApplicationPolicy: TypeAlias = Callable[
    [Mapping[DeploymentId, AutoscalingContext]],
    tuple[Mapping[DeploymentId, float], Mapping[DeploymentId, PolicyState] | None],
]
"""The same for all deployments of an application at once; a deployment it leaves out stays as it is."""
