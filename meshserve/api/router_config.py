"""How users say which policy picks replicas, and how a full queue is answered."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, fields
from typing import Any

import cloudpickle

from meshserve.api.checks import integer, json_value, mapping, number
from meshserve.api.config_class import Config
from meshserve.model.options import BackpressureOptions, RouterOptions
from meshserve.routing.policies import POLICIES, check_policy, policy_name
from meshserve.rpc.import_path import import_object

_DURATIONS = (
    "request_routing_stats_period_s",
    "request_routing_stats_timeout_s",
    "initial_backoff_s",
    "backoff_multiplier",
    "max_backoff_s",
)


@dataclass(frozen=True, kw_only=True)
class RequestRouterConfig(Config):
    """Which policy picks replicas.

    Args:
        request_router_class: a router class, its import path (`module:Class` or dotted), or the name of a built-in
            policy; empty for the default, the better of two replicas drawn at random.
        request_router_kwargs: given to the router's `initialize_state`; JSON values.
        request_routing_stats_period_s: how often `record_routing_stats` is asked.
        request_routing_stats_timeout_s: how long it may take.
        initial_backoff_s: the first pause before replicas are picked again.
        backoff_multiplier: of the pause, from one to the next.
        max_backoff_s: the longest pause.

    Raises:
        ImportError: the class's module cannot be imported.
        ValueError: a field is out of its range, or the module has no such class.
    """

    _other_fields = "ignore"

    request_router_class: str | type = ""
    request_router_kwargs: dict[str, Any] = field(default_factory=dict)
    request_routing_stats_period_s: float = 10.0
    request_routing_stats_timeout_s: float = 30.0
    initial_backoff_s: float = 0.025
    backoff_multiplier: float = 2.0
    max_backoff_s: float = 0.5

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            number(name, getattr(self, name), above=0)
        json_value("request_router_kwargs", mapping("request_router_kwargs", self.request_router_kwargs))
        if isinstance(self.request_router_class, str):
            policy = policy_name(self.request_router_class)
            if policy is not None:
                check_policy(policy, self.request_router_kwargs)
            elif {":", "."} & set(self.request_router_class):
                import_object(self.request_router_class)
            else:
                raise ValueError(
                    f"request_router_class {self.request_router_class!r} is neither a policy ({', '.join(POLICIES)}) "
                    "nor an import path."
                )
        elif not isinstance(self.request_router_class, type):
            raise TypeError(f"request_router_class must be a class or text, not {self.request_router_class!r}.")

    def to_options(self) -> RouterOptions:
        """The same for the mesh. A class travels by value: it need not be importable where replicas are picked."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        router = plain.pop("request_router_class")
        if isinstance(router, str):
            return RouterOptions(request_router_class=router, **plain)
        if (policy := policy_name(f"{router.__module__}:{router.__qualname__}")) is not None:
            return RouterOptions(request_router_class=policy, **plain)
        pickled = base64.b64encode(cloudpickle.dumps(router)).decode()
        return RouterOptions(request_router_class=router.__qualname__, request_router_pickle=pickled, **plain)


@dataclass(frozen=True, kw_only=True)
class BackpressureConfig(Config):
    """How an HTTP ingress answers when a queue is full; gRPC answers RESOURCE_EXHAUSTED.

    Args:
        status_code: 503 or 429.
        retry_after_s: seconds in the Retry-After header; None for no header.

    Raises:
        ValueError: a field is out of its range.
    """

    status_code: int = 503
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        if integer("status_code", self.status_code, 400) not in (429, 503):
            raise ValueError(f"status_code must be 429 or 503, not {self.status_code}.")
        if self.retry_after_s is not None:
            number("retry_after_s", self.retry_after_s, least=0)

    def to_options(self) -> BackpressureOptions:
        """The same for the mesh."""
        return BackpressureOptions(self.status_code, self.retry_after_s)
