"""How users say that replicas start and end together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from meshserve.api.checks import integer
from meshserve.api.config_class import Config
from meshserve.core.gang_counts import most_whole_gangs
from meshserve.model.options import AutoscalingOptions, DeploymentOptions, GangOptions

EXCLUDES_PER_NODE = "Setting max_replicas_per_node is not allowed when gang_scheduling_config is provided."
EXCLUDES_STRATEGY = (
    "Setting placement_group_strategy is not allowed when gang_scheduling_config is provided. "
    "Use gang_scheduling_config.gang_placement_strategy instead."
)


class GangPlacementStrategy(StrEnum):
    """Where the replicas of a gang are placed."""

    PACK = "PACK"
    """On as few nodes as possible."""
    SPREAD = "SPREAD"
    """On as many nodes as possible."""


class GangRuntimeFailurePolicy(StrEnum):
    """What a replica that fails means for its gang."""

    RESTART_GANG = "RESTART_GANG"
    """All of it is started again."""
    RESTART_REPLICA = "RESTART_REPLICA"
    """Only that replica is; a name that is known, and not to be had yet."""


@dataclass(frozen=True, kw_only=True)
class GangSchedulingConfig(Config):
    """Replicas that start together in one placement group, and end together.

    Args:
        gang_size: replicas of a gang; `num_replicas` must be a multiple of it.
        gang_placement_strategy: where they are placed.
        runtime_failure_policy: what a replica that fails means for the others.

    Raises:
        ValueError: a field is out of its range.
        TypeError: a field is of the wrong type.
        NotImplementedError: replicas of a gang cannot be restarted one by one.
    """

    gang_size: int
    gang_placement_strategy: GangPlacementStrategy = GangPlacementStrategy.PACK
    runtime_failure_policy: GangRuntimeFailurePolicy = GangRuntimeFailurePolicy.RESTART_GANG

    def __post_init__(self) -> None:
        integer("gang_size", self.gang_size, 1)
        for name, kind in _KINDS.items():
            object.__setattr__(self, name, _one_of(name, getattr(self, name), kind))
        if self.runtime_failure_policy is GangRuntimeFailurePolicy.RESTART_REPLICA:
            raise NotImplementedError(
                "runtime_failure_policy RESTART_REPLICA is not there yet: a gang whose replica fails is restarted as a "
                "whole. Use RESTART_GANG, or leave the field out."
            )

    def to_options(self) -> GangOptions:
        """The same for the mesh."""
        return GangOptions(self.gang_size, str(self.gang_placement_strategy), str(self.runtime_failure_policy))


_KINDS: dict[str, type[StrEnum]] = {
    "gang_placement_strategy": GangPlacementStrategy,
    "runtime_failure_policy": GangRuntimeFailurePolicy,
}


def _one_of(name: str, value: object, kind: type[StrEnum]) -> StrEnum:
    if isinstance(value, str) and value in list(kind):
        return kind(value)
    raise ValueError(f"{name} must be one of {', '.join(kind)}, not {value!r}.")


def check_gangs(options: DeploymentOptions, strategy: bool) -> None:
    """Gangs and what other options say.

    Args:
        strategy: the user has set `placement_group_strategy`.

    Raises:
        ValueError: they contradict each other.
    """
    if options.gang_scheduling_config is None:
        return
    size, auto = options.gang_size, options.autoscaling_config
    if options.max_replicas_per_node is not None:
        raise ValueError(EXCLUDES_PER_NODE)
    if strategy:
        raise ValueError(EXCLUDES_STRATEGY)
    if auto is not None:
        _check_bounds(auto, size)
    elif options.num_replicas % size:
        raise ValueError(not_whole("num_replicas", options.num_replicas, size))


def not_whole(name: str, count: int, gang_size: int) -> str:
    """What is wrong with a number of replicas."""
    return f"{name} ({count}) must be a multiple of gang_size ({gang_size})."


def _check_bounds(auto: AutoscalingOptions, size: int) -> None:
    if not auto.min_replicas <= most_whole_gangs(auto.max_replicas, size) <= auto.max_replicas:
        raise ValueError(
            f"No multiple of gang_size ({size}) lies between min_replicas ({auto.min_replicas}) and max_replicas "
            f"({auto.max_replicas}) of autoscaling_config: choose bounds that are multiples of it."
        )
