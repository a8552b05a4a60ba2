"""Classes of configuration."""

from __future__ import annotations

from meshserve.api.autoscaling_config import AggregationFunction, AutoscalingConfig, AutoscalingPolicy
from meshserve.api.controller_options import ControllerOptions
from meshserve.api.deployment_actors import DeploymentActorConfig
from meshserve.api.gang_config import GangPlacementStrategy, GangRuntimeFailurePolicy, GangSchedulingConfig
from meshserve.api.ingress_options import HTTPOptions, ProxyLocation, gRPCOptions
from meshserve.api.logging_config import LoggingConfig
from meshserve.api.router_config import BackpressureConfig, RequestRouterConfig
from meshserve.model.autoscaling import AutoscalingContext

__all__ = [
    "AggregationFunction",
    "AutoscalingConfig",
    "AutoscalingContext",
    "AutoscalingPolicy",
    "BackpressureConfig",
    "ControllerOptions",
    "GangPlacementStrategy",
    "GangRuntimeFailurePolicy",
    "GangSchedulingConfig",
    "DeploymentActorConfig",
    "HTTPOptions",
    "LoggingConfig",
    "ProxyLocation",
    "RequestRouterConfig",
    "gRPCOptions",
]
