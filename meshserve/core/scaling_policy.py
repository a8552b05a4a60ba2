"""Autoscaling policies: the default one, how a user's is made callable, and how its answer is checked.

`core.autoscale` asks a policy how many replicas are wanted and does the rest (cold start, factors, delays, bounds).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from typing import Any

from meshserve.model.autoscaling import AutoscalingContext, PolicyState
from meshserve.model.ids import DeploymentId


def queue_length_policy(context: AutoscalingContext) -> tuple[float, PolicyState]:
    """The default policy: as many replicas as give each its `target_ongoing_requests`."""
    if (cold := cold_start(context)) is not None:
        return cold, context.policy_state
    if context.current_num_replicas == 0:
        return context.target_num_replicas, {}
    return context.total_num_requests / context.config.target_ongoing_requests, {}


def cold_start(context: AutoscalingContext) -> int | None:
    """How many replicas to start at once because calls wait and none runs; None when that is not so."""
    if context.current_num_replicas == 0 and context.total_num_requests > 0:
        return max(math.ceil(context.config.get_upscaling_factor()), context.target_num_replicas)
    return None


def bind_policy(policy: Callable[..., Any], kwargs: Mapping[str, Any]) -> Callable[..., Any]:
    """Makes a policy of what a user named: a class is instantiated once, a function gets the arguments by name.

    Raises:
        TypeError: what was named cannot be called, or does not take these arguments.
    """
    bound: Any = policy(**kwargs) if inspect.isclass(policy) else partial(policy, **kwargs)
    if not callable(bound):
        raise TypeError(f"an autoscaling policy must be a function or a class with __call__, not {policy!r}")
    return bound  # type: ignore[no-any-return]  # callable() knows no more than Any


def checked_answer(answer: object) -> tuple[float, PolicyState]:
    """Reads the answer of a deployment's policy.

    Raises:
        TypeError, ValueError: it is not `(number, state)`.
    """
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError(f"an autoscaling policy must return (number of replicas, state), not {answer!r}")
    count, state = answer
    if state is not None and not isinstance(state, Mapping):
        raise TypeError(f"the state an autoscaling policy returns must be a dict or None, not {state!r}")
    return _checked_count(count), state or {}


def _checked_count(count: object) -> float:
    if isinstance(count, bool) or not isinstance(count, Real):
        raise TypeError(f"an autoscaling policy must ask for a number of replicas, not {count!r}")
    if not math.isfinite(count):
        raise ValueError(f"an autoscaling policy must ask for a finite number of replicas, not {count!r}")
    return float(count)


def checked_application_answer(
    answer: object, contexts: Mapping[DeploymentId, AutoscalingContext]
) -> tuple[dict[DeploymentId, float], Mapping[DeploymentId, PolicyState]]:
    """Reads the answer of an application's policy.

    Raises:
        TypeError, ValueError: it has the wrong shape, or names a deployment that `contexts` does not have.
    """
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[0], Mapping):
        raise TypeError(
            f"an application's autoscaling policy must return (deployment -> number, states), not {answer!r}"
        )
    wanted, states = answer
    if states is not None and not isinstance(states, Mapping):
        raise TypeError(
            f"the states an application's autoscaling policy returns must be a dict or None, not {states!r}"
        )
    if unknown := [str(deployment) for deployment in (*wanted, *(states or ())) if deployment not in contexts]:
        raise ValueError(
            f"an application's autoscaling policy named {unknown}; "
            f"the application's autoscaled deployments are {[str(deployment) for deployment in contexts]}"
        )
    return {deployment: _checked_count(count) for deployment, count in wanted.items()}, states or {}
