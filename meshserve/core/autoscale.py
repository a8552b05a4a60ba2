"""How many replicas a deployment should have: one decision at one instant, as a pure function.

The controller calls `plan_replicas` on every tick with what is measured and keeps the state it gets back. The decision
has five steps, for the default policy and for every user's:

1. *Cold start*: calls wait and no replica runs. Start some at once; nothing below may delay this.
2. *Policy*: how many replicas are wanted (the default: calls in hand / calls a replica should have in hand).
3. *Factor*: the difference between that and the replicas that **run** is stretched or damped.
4. *Delay*: the result must stay above (or below) the **target** for the delay of that direction without a break; a
   change of direction or equality begins anew. A target above 1 comes down to 1 first and only goes to 0 from there.
   Gangs are wanted whole: the number is rounded up to them before it is compared, and one gang stands in place of 1.
5. *Bounds*: the result is cut to the bounds, which target capacity moves.

The rules are those of Ray Serve's autoscaler as users can see them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from meshserve.core.gang_counts import whole_gangs
from meshserve.core.scaling_policy import (
    checked_answer,
    checked_application_answer,
    cold_start,
    queue_length_policy,
)
from meshserve.core.windows import MeasuredLoad
from meshserve.model.autoscaling import ApplicationPolicy, AutoscalingContext, Policy, PolicyState
from meshserve.model.ids import DeploymentId
from meshserve.model.options import AutoscalingOptions

ROUNDING = 6
"""Decimals of a replica count that mean something: a time-weighted mean of a constant load is not exactly constant
in floating point, and `ceil` would make a whole replica of the difference."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The fewest and the most replicas allowed now."""

    lower: int
    upper: int

    def clip(self, count: int) -> int:
        """The nearest count within the bounds."""
        return max(self.lower, min(self.upper, count))


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What a deployment's autoscaling remembers between decisions.

    Attributes:
        direction: 1 while more replicas are wanted than targeted, -1 while fewer, 0 else.
        since: when that direction began.
        last_up_at: when the target was last raised, or None.
        last_down_at: when the target was last lowered, or None.
        policy_state: the policy's own.
    """

    direction: int = 0
    since: float = 0.0
    last_up_at: float | None = None
    last_down_at: float | None = None
    policy_state: PolicyState = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScalingPlan:
    """A decision.

    Attributes:
        target: the replicas to have from now on.
        state: to be handed to the next decision.
        desired: what policy and factors asked for, before delays and bounds; for metrics.
    """

    target: int
    state: ScalingState
    desired: int


def plan_replicas(
    context: AutoscalingContext, state: ScalingState, policy: Policy = queue_length_policy
) -> ScalingPlan:
    """Decides the number of replicas of one deployment.

    Args:
        context: what is known at `context.current_time`; see `scaling_context`.
        state: of the decision before; a new one at first and whenever the deployment is set anew.
        policy: the default one or a user's.

    Raises:
        TypeError, ValueError: the policy's answer is not `(number, state)`.
        Exception: whatever a user's policy raises. The caller keeps the target it has.
    """
    if (cold := cold_start(context)) is not None:
        return _settle(context, replace(state, direction=0), cold, cold)
    wanted, policy_state = checked_answer(policy(context))
    return _plan_wanted(context, replace(state, policy_state=policy_state), wanted)


def plan_application(
    contexts: Mapping[DeploymentId, AutoscalingContext],
    states: Mapping[DeploymentId, ScalingState],
    policy: ApplicationPolicy,
) -> dict[DeploymentId, ScalingPlan]:
    """Decides for all deployments of an application with one policy; what it leaves out stays as it is.

    Calls that wait at a deployment without replicas start some even when the policy leaves it out.

    Raises:
        TypeError, ValueError: the policy's answer has the wrong shape or names an unknown deployment.
        Exception: whatever the policy raises. The caller keeps the targets it has.
    """
    wanted, policy_states = checked_application_answer(policy(contexts), contexts)
    plans: dict[DeploymentId, ScalingPlan] = {}
    for deployment, context in contexts.items():
        state = states.get(deployment, ScalingState())
        if deployment in policy_states:
            state = replace(state, policy_state=policy_states[deployment])
        if (cold := cold_start(context)) is not None:
            plans[deployment] = _settle(context, replace(state, direction=0), cold, cold)
        elif deployment in wanted:
            plans[deployment] = _plan_wanted(context, state, wanted[deployment])
        else:
            plans[deployment] = ScalingPlan(context.target_num_replicas, state, context.target_num_replicas)
    return plans


def scaling_context(
    base: AutoscalingContext, load: MeasuredLoad, bounds: Bounds, state: ScalingState
) -> AutoscalingContext:
    """Completes a context that knows the deployment, its replicas and options with what was measured and decided."""
    return replace(
        base,
        total_num_requests=load.total,
        total_queued_requests=load.queued,
        capacity_adjusted_min_replicas=bounds.lower,
        capacity_adjusted_max_replicas=bounds.upper,
        policy_state=state.policy_state,
        last_scale_up_time=state.last_up_at,
        last_scale_down_time=state.last_down_at,
    )


# -- the five steps ------------------------------------------------------------------------------------------------


def _plan_wanted(context: AutoscalingContext, state: ScalingState, wanted: float) -> ScalingPlan:
    desired = stretch(context.config, context.current_num_replicas, wanted)
    if context.current_num_replicas == 0 and desired > 0:
        return _settle(context, replace(state, direction=0), desired, desired)
    return _delay(context, state, desired)


def stretch(options: AutoscalingOptions, running: int, wanted: float) -> int:
    """Applies the up- or downscaling factor to the difference between the replicas wanted and those that run.

    A damped downscale still takes at least one replica away, or a small difference would never be followed.
    """
    if running == 0:
        return _ceil(wanted)
    difference = wanted - running
    factor = options.get_upscaling_factor() if difference > 0 else options.get_downscaling_factor()
    scaled = _ceil(running + factor * difference)
    if _ceil(wanted) < running and scaled == running:
        scaled -= 1
    return max(0, scaled)


def _delay(context: AutoscalingContext, state: ScalingState, desired: int) -> ScalingPlan:
    target, now, options = context.target_num_replicas, context.current_time, context.config
    gang_size = context.gang_size
    wanted = whole_gangs(max(1, desired) if target > gang_size else desired, gang_size)
    direction = (wanted > target) - (wanted < target)
    if direction == 0:
        return _settle(context, replace(state, direction=0), target, desired)
    since = state.since if state.direction == direction else now
    if direction > 0:
        delay_s = options.upscale_delay_s
    elif wanted == 0 and options.downscale_to_zero_delay_s is not None:
        delay_s = options.downscale_to_zero_delay_s
    else:
        delay_s = options.downscale_delay_s
    if now - since < delay_s:
        return _settle(context, replace(state, direction=direction, since=since), target, desired)
    return _settle(context, replace(state, direction=0), wanted, desired)


def _settle(context: AutoscalingContext, state: ScalingState, count: int, desired: int) -> ScalingPlan:
    bounds = Bounds(context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas)
    target = bounds.clip(whole_gangs(count, context.gang_size))
    if target > context.target_num_replicas:
        state = replace(state, last_up_at=context.current_time)
    elif target < context.target_num_replicas:
        state = replace(state, last_down_at=context.current_time)
    return ScalingPlan(target, state, desired)


def _ceil(count: float) -> int:
    return math.ceil(round(count, ROUNDING))
