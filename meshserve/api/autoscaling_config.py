"""How users say when the number of replicas should change."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import partial
from typing import Any

import cloudpickle

from meshserve.api.checks import config, json_value, mapping, read_integer, read_number
from meshserve.api.config_class import Config
from meshserve.api.imports import import_path
from meshserve.core.scaling_policy import queue_length_policy
from meshserve.model.options import AutoscalingOptions


class AggregationFunction(StrEnum):
    """How measurements of the look-back window become one number."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True)
class AutoscalingPolicy(Config):
    """Who decides how many replicas are wanted.

    Args:
        policy_function: a function or class, or its import path `module:name`; empty for the default policy, which
            gives each replica its `target_ongoing_requests`. One that cannot be imported elsewhere travels by value.
        policy_kwargs: given to it by name; JSON values.

    Raises:
        TypeError: the policy is neither text nor callable, or cannot be pickled.
        ValueError: the arguments are no JSON values.
    """

    _older_names = {"name": "policy_function"}

    _other_fields = "ignore"

    policy_function: str | Callable[..., Any] = ""
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    policy_pickle: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kwargs = json_value("policy_kwargs", mapping("policy_kwargs", self.policy_kwargs))
        object.__setattr__(self, "policy_kwargs", kwargs)
        given = "" if self.policy_function in _DEFAULT_NAMES else self.policy_function
        path, pickled = (given, "") if isinstance(given, str) else _packed(given)
        object.__setattr__(self, "policy_function", path)
        object.__setattr__(self, "policy_pickle", pickled)

    def is_default_policy_function(self) -> bool:
        """Whether nobody named another policy."""
        return not self.policy_function

    @staticmethod
    def of_options(options: AutoscalingOptions) -> AutoscalingPolicy:
        """What was said to the mesh."""
        policy = AutoscalingPolicy(options.policy_function, dict(options.policy_kwargs))
        object.__setattr__(policy, "policy_pickle", options.policy_pickle)
        return policy


_DEFAULT_NAMES = (
    queue_length_policy,
    *(
        f"{root}.autoscaling_policy{dot}{name}"
        for root in ("meshserve", "ray.serve")
        for dot in ":."
        for name in ("default_autoscaling_policy", "replica_queue_length_autoscaling_policy")
    ),
)
"""The default policy and its import paths; Ray Serve need not be installed to understand them."""


def _packed(policy: Any) -> tuple[str, str]:
    """A policy's import path, and the policy itself by value if the path is no use elsewhere."""
    if not callable(policy):
        raise TypeError(f"policy_function must be a function, a class or text, not {policy!r}.")
    try:
        return import_path(policy), ""
    except ValueError:
        pickled = base64.b64encode(cloudpickle.dumps(policy)).decode()
        kind = type(policy)
        module, name = (
            getattr(policy, "__module__", kind.__module__),
            getattr(policy, "__qualname__", kind.__qualname__),
        )
        return f"{module}:{name}", pickled


@dataclass(frozen=True, kw_only=True)
class AutoscalingConfig(Config):
    """When to change the number of replicas of a deployment.

    Args:
        min_replicas: never fewer; 0 lets it scale to zero.
        max_replicas: never more.
        initial_replicas: how many to begin with; None for `min_replicas`, or for what there is at an update.
        target_ongoing_requests: calls, waiting and running, that each replica should have.
        metrics_interval_s: how often, at least, replicas are asked for what they measure of themselves.
        look_back_period_s: over how long load is aggregated.
        upscaling_factor: multiplies what is missing; None for 1.
        downscaling_factor: multiplies what is too many; None for 1.
        smoothing_factor: an older name for both.
        upscale_smoothing_factor: an older name for `upscaling_factor`.
        downscale_smoothing_factor: an older name for `downscaling_factor`.
        upscale_delay_s: for so long more must be wanted before more are started.
        downscale_delay_s: for so long fewer must be wanted before some are stopped.
        downscale_to_zero_delay_s: the same for the last one; None for `downscale_delay_s`.
        aggregation_function: over the look-back window.
        policy: who decides.

    Raises:
        ValueError: a field is out of its range, or the bounds contradict each other.
        TypeError: a field is of the wrong type.
    """

    _older_names = {
        "target_num_ongoing_requests_per_replica": "target_ongoing_requests",
        "target_num_ongoing_requests": "target_ongoing_requests",
    }

    _other_fields = "ignore"

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
    aggregation_function: str = AggregationFunction.MEAN
    policy: AutoscalingPolicy = AutoscalingPolicy()

    def __post_init__(self) -> None:
        self._read("min_replicas", read_integer, 0)
        self._read("max_replicas", read_integer, 1)
        self._read("initial_replicas", read_integer, 0)
        self._check_bounds()
        for name in _POSITIVE:
            self._read(name, partial(read_number, above=0))
        for name in ("upscale_delay_s", "downscale_delay_s", "downscale_to_zero_delay_s"):
            self._read(name, partial(read_number, least=0))
        object.__setattr__(self, "aggregation_function", AggregationFunction(str(self.aggregation_function).lower()))
        object.__setattr__(self, "policy", config("policy", self.policy, AutoscalingPolicy))
        if self.look_back_period_s <= self.metrics_interval_s:
            warnings.warn(
                f"look_back_period_s ({self.look_back_period_s:g}) should be greater than metrics_interval_s "
                f"({self.metrics_interval_s:g}): load would be measured less often than it is aggregated.",
                FutureWarning,
                stacklevel=5,
            )

    def _read(self, name: str, read: Callable[..., float], *limits: int) -> None:
        value = getattr(self, name)
        if value is not None or name not in _MAY_BE_NONE:
            object.__setattr__(self, name, read(name, value, *limits))

    def _check_bounds(self) -> None:
        least, most, initial = self.min_replicas, self.max_replicas, self.initial_replicas
        if most < least:
            raise ValueError(f"max_replicas ({most}) must be greater than or equal to min_replicas ({least})!")
        if initial is not None and initial < least:
            raise ValueError(f"min_replicas ({least}) must be less than or equal to initial_replicas ({initial})!")
        if initial is not None and initial > most:
            raise ValueError(f"max_replicas ({most}) must be greater than or equal to initial_replicas ({initial})!")

    @staticmethod
    def default() -> AutoscalingConfig:
        """What `num_replicas="auto"` stands for: 1 to 100 replicas, 2 ongoing requests each."""
        return AutoscalingConfig(min_replicas=1, max_replicas=100)

    def to_options(self) -> AutoscalingOptions:
        """The same for the mesh."""
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "policy"}
        plain["aggregation_function"] = str(self.aggregation_function)
        return AutoscalingOptions(
            **plain,
            policy_function=str(self.policy.policy_function),
            policy_pickle=self.policy.policy_pickle,
            policy_kwargs=self.policy.policy_kwargs,
        )

    def get_upscaling_factor(self) -> float:
        """See `AutoscalingOptions`."""
        return self.to_options().get_upscaling_factor()

    def get_downscaling_factor(self) -> float:
        """See `AutoscalingOptions`."""
        return self.to_options().get_downscaling_factor()

    def get_target_ongoing_requests(self) -> float:
        """See `AutoscalingOptions`."""
        return self.target_ongoing_requests

    @staticmethod
    def of_options(options: AutoscalingOptions) -> AutoscalingConfig:
        """What was said to the mesh."""
        plain = {one.name: getattr(options, one.name) for one in fields(AutoscalingConfig) if one.name != "policy"}
        return AutoscalingConfig(**plain, policy=AutoscalingPolicy.of_options(options))


_POSITIVE = (
    "target_ongoing_requests",
    "metrics_interval_s",
    "look_back_period_s",
    "upscaling_factor",
    "downscaling_factor",
    "smoothing_factor",
    "upscale_smoothing_factor",
    "downscale_smoothing_factor",
)


_MAY_BE_NONE = (
    "initial_replicas",
    "upscaling_factor",
    "downscaling_factor",
    "upscale_smoothing_factor",
    "downscale_smoothing_factor",
    "downscale_to_zero_delay_s",
)


def automatic(given: AutoscalingConfig | dict[str, Any] | None) -> AutoscalingConfig:
    """The configuration of `num_replicas="auto"`: its defaults, overlaid with the fields that were given.

    A field of an object counts as given when it differs from the class's default.
    """
    if given is None:
        return AutoscalingConfig.default()
    if isinstance(given, AutoscalingConfig):
        plain = AutoscalingConfig()
        given = {
            one.name: getattr(given, one.name)
            for one in fields(given)
            if getattr(given, one.name) != getattr(plain, one.name)
        }
    return config("autoscaling_config", {"max_replicas": 100, **given}, AutoscalingConfig)
