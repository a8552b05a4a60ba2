"""Autoscaling policies: the default one, and what a policy of one's own is told and answers.

A policy is a function, or a class that is made once and called, of an `AutoscalingContext`; it returns the number of
replicas wanted (a fraction is rounded up) and a dict to be found in `policy_state` the next time.
"""

from meshserve.core.scaling_policy import queue_length_policy as replica_queue_length_autoscaling_policy
from meshserve.model.autoscaling import AutoscalingContext, TimeStampedValue
from meshserve.user.prometheus_query import (
    PrometheusQueryMixin,
    PrometheusQueryResult,
    PrometheusSample,
    PrometheusScalar,
    PrometheusVector,
)

default_autoscaling_policy = replica_queue_length_autoscaling_policy

__all__ = [
    "AutoscalingContext",
    "PrometheusQueryMixin",
    "PrometheusQueryResult",
    "PrometheusSample",
    "PrometheusScalar",
    "PrometheusVector",
    "TimeStampedValue",
    "default_autoscaling_policy",
    "replica_queue_length_autoscaling_policy",
]
