"""Which fields a configuration file can have, at every level: what a misspelt one is compared with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from meshserve.api.autoscaling_config import AutoscalingConfig, AutoscalingPolicy
from meshserve.api.controller_options import ControllerOptions
from meshserve.api.gang_config import GangSchedulingConfig
from meshserve.api.ingress_options import HTTPOptions, gRPCOptions
from meshserve.api.router_config import BackpressureConfig, RequestRouterConfig
from meshserve.api.schema_application import ServeApplicationSchema
from meshserve.api.schema_deployment import DeploymentSchema, RayActorOptionsSchema
from meshserve.api.schema_file import ServeDeploySchema
from meshserve.api.schema_logging import LoggingConfig, TracingConfig
from meshserve.api.validation import Mistake, Place

_RETIRED = frozenset({"route_prefix", "version", "is_driver_deployment", "max_concurrent_queries"})
"""Options of deployments in older releases; files that have them still work."""

_NEARNESS = 0.7
"""How much of a name must agree for it to be called misspelt."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one level of a file can have.

    Attributes:
        fields: its names.
        parts: the levels below, by name; also of each entry of a list.
    """

    fields: frozenset[str]
    parts: Mapping[str, Shape] = field(default_factory=dict)


def _model(kind: Any, **parts: Shape) -> Shape:
    return Shape(frozenset(kind.model_fields), parts)


def _options(kind: Any, *older: str, **parts: Shape) -> Shape:
    """The shape of an option class, with names that fields had in older releases and that still count."""
    return Shape(frozenset(one.name for one in fields(kind) if one.init) | {*older}, parts)


_LOGGING = _model(LoggingConfig)
_DEPLOYMENT = _model(
    DeploymentSchema,
    ray_actor_options=_model(RayActorOptionsSchema),
    autoscaling_config=_options(AutoscalingConfig, policy=_options(AutoscalingPolicy, "name")),
    request_router_config=_options(RequestRouterConfig),
    backpressure_config=_options(BackpressureConfig),
    gang_scheduling_config=_options(GangSchedulingConfig),
    logging_config=_LOGGING,
)
FILE = _model(
    ServeDeploySchema,
    http_options=_options(HTTPOptions),
    grpc_options=_options(gRPCOptions),
    controller_options=_options(ControllerOptions),
    logging_config=_LOGGING,
    tracing_config=_model(TracingConfig),
    applications=_model(
        ServeApplicationSchema,
        deployments=_DEPLOYMENT,
        logging_config=_LOGGING,
        autoscaling_policy=_options(AutoscalingPolicy),
    ),
)


def misspelt(content: Any) -> list[Mistake]:
    """Fields that do not exist and are near to one that does: nobody means them to be ignored."""
    return [
        Mistake(place, f"there is no such field. Did you mean {near!r}?")
        for place, shape in _unknown(content, FILE, ())
        if str(place[-1]) not in _RETIRED and (near := _nearest(str(place[-1]), shape.fields))
    ]


def ignored(content: Any) -> list[Mistake]:
    """Fields that do not exist and are like none that does: of older or newer releases, and passed over as there."""
    return [
        Mistake(place, "there is no such field; it is ignored")
        for place, shape in _unknown(content, FILE, ())
        if str(place[-1]) in _RETIRED or not _nearest(str(place[-1]), shape.fields)
    ]


def _nearest(name: str, known: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, known, 1, _NEARNESS)), "")


def _unknown(content: Any, shape: Shape, place: Place) -> list[tuple[Place, Shape]]:
    if isinstance(content, list):
        return [found for at, entry in enumerate(content) for found in _unknown(entry, shape, (*place, at))]
    if not isinstance(content, Mapping):
        return []
    here = [((*place, str(name)), shape) for name in content if name not in shape.fields]
    below = [
        found
        for name, part in shape.parts.items()
        if name in content
        for found in _unknown(content[name], part, (*place, name))
    ]
    return [*here, *below]
