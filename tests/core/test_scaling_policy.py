"""What users name as an autoscaling policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from meshserve.autoscaling_policy import default_autoscaling_policy
from meshserve.core.scaling_policy import bind_policy
from meshserve.model.autoscaling import AutoscalingContext
from meshserve.model.ids import DeploymentId

CONTEXT = AutoscalingContext(DeploymentId("app", "model"), current_num_replicas=2, target_num_replicas=2)


@dataclass
class Constant:
    replicas: int

    def __call__(self, _: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        return self.replicas, {}


def scaled(context: AutoscalingContext, by: int = 1) -> tuple[float, dict[str, Any]]:
    return context.current_num_replicas * by, {}


def test_a_class_is_made_once_with_its_arguments() -> None:
    assert bind_policy(Constant, {"replicas": 7})(CONTEXT) == (7, {})


def test_a_function_gets_its_arguments_by_name() -> None:
    assert bind_policy(scaled, {"by": 3})(CONTEXT) == (6, {})
    assert bind_policy(scaled, {})(CONTEXT) == (2, {})


def test_a_class_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="__call__"):
        bind_policy(object, {})


def test_the_default_policy_can_be_called_by_a_policy_of_ones_own() -> None:
    assert default_autoscaling_policy(CONTEXT) == (0.0, {})
