"""The autoscaling decision: serve-behaviour section 8.2 as tables, and what must hold whatever happens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshserve.core.autoscale import (
    Bounds,
    ScalingPlan,
    ScalingState,
    plan_application,
    plan_replicas,
    scaling_context,
    stretch,
)
from meshserve.core.windows import MeasuredLoad
from meshserve.model.autoscaling import AutoscalingContext, Policy
from meshserve.model.ids import DeploymentId
from meshserve.model.options import AutoscalingOptions

MODEL = DeploymentId("app", "model")
FRONT = DeploymentId("app", "front")
EAGER = AutoscalingOptions(min_replicas=0, max_replicas=100, upscale_delay_s=0, downscale_delay_s=0)


def context(
    options: AutoscalingOptions, running: int, target: int, calls: float, now: float = 0.0, **more: Any
) -> AutoscalingContext:
    return AutoscalingContext(
        deployment_id=more.pop("deployment", MODEL),
        config=options,
        current_num_replicas=running,
        target_num_replicas=target,
        total_num_requests=calls,
        capacity_adjusted_min_replicas=options.min_replicas,
        capacity_adjusted_max_replicas=options.max_replicas,
        current_time=now,
        **more,
    )


class Deployment:
    """A deployment whose replicas start and stop at once, and its clock."""

    def __init__(self, options: AutoscalingOptions, target: int, policy: Policy | None = None) -> None:
        self.options = options
        self.target = target
        self.running = target
        self.now = 0.0
        self.state = ScalingState()
        self.policy = policy

    def at(self, now: float, calls: float) -> int:
        self.now = now
        told = context(self.options, self.running, self.target, calls, now, policy_state=self.state.policy_state)
        plan = plan_replicas(told, self.state, self.policy) if self.policy else plan_replicas(told, self.state)
        self.target = self.running = plan.target
        self.state = plan.state
        return plan.target


@pytest.mark.parametrize(
    ("running", "target", "calls", "expected"),
    [
        # cold start: calls wait, nothing runs
        (0, 0, 1, 1),
        (0, 0, 500, 1),
        (0, 3, 1, 3),
        # nothing runs and nobody waits
        (0, 0, 0, 0),
        (0, 2, 0, 2),
        # calls in hand / calls each should have in hand
        (1, 1, 2, 1),
        (1, 1, 2.1, 2),
        (1, 1, 20, 10),
        (10, 10, 1, 1),
        (4, 4, 8, 4),
        # the difference is to the running ones, the delay to the target
        (2, 6, 12, 6),
        # zero only from one
        (5, 5, 0, 1),
        (1, 1, 0, 0),
        # bounds
        (1, 1, 1000, 100),
    ],
)
def test_decisions_without_delays(running: int, target: int, calls: float, expected: int) -> None:
    assert plan_replicas(context(EAGER, running, target, calls), ScalingState()).target == expected


@pytest.mark.parametrize(
    ("running", "target", "calls", "expected"),
    [
        (0, 0, 1, 3),
        (3, 3, 9, 6),  # five are wanted
        (9, 9, 13, 9),  # seven are wanted
        (9, 9, 12, 6),
        # zero only from one gang
        (6, 6, 0, 3),
        (3, 3, 0, 0),
        (3, 3, 1000, 99),
    ],
)
def test_gangs_are_wanted_whole(running: int, target: int, calls: float, expected: int) -> None:
    told = replace(context(EAGER, running, target, calls), gang_size=3, capacity_adjusted_max_replicas=99)
    assert plan_replicas(told, ScalingState()).target == expected


@pytest.mark.parametrize(
    ("factors", "running", "wanted", "expected"),
    [
        ({}, 10, 20, 20),
        ({"upscaling_factor": 0.5}, 10, 20, 15),
        ({"upscaling_factor": 2.0}, 10, 20, 30),
        ({"upscaling_factor": 0.01}, 10, 20, 11),
        ({"downscaling_factor": 0.5}, 10, 4, 7),
        ({"downscaling_factor": 0.01}, 10, 9, 9),
        ({"downscaling_factor": 0.01}, 10, 9.5, 10),
        ({"smoothing_factor": 0.5}, 10, 20, 15),
        ({"smoothing_factor": 0.5}, 10, 4, 7),
        ({"smoothing_factor": 0.5, "upscale_smoothing_factor": 2.0}, 10, 20, 30),
        ({"upscale_smoothing_factor": 2.0, "upscaling_factor": 1.0}, 10, 20, 20),
        ({"downscale_smoothing_factor": 0.5}, 10, 4, 7),
        ({"upscaling_factor": 0.1}, 0, 3.2, 4),
        ({"downscaling_factor": 3.0}, 2, 0, 0),
    ],
)
def test_a_factor_multiplies_the_difference_to_running(
    factors: dict[str, float], running: int, wanted: float, expected: int
) -> None:
    assert stretch(AutoscalingOptions(**factors), running, wanted) == expected


@pytest.mark.parametrize(("factor", "expected"), [(None, 1), (0.3, 1), (3.0, 3), (2.5, 3)])
def test_a_cold_start_begins_with_the_upscaling_factor(factor: float | None, expected: int) -> None:
    options = replace(EAGER, upscaling_factor=factor, upscale_delay_s=30)
    assert plan_replicas(context(options, 0, 0, 7), ScalingState()).target == expected


def test_a_cold_start_skips_the_delay_but_not_the_bounds() -> None:
    options = replace(EAGER, upscale_delay_s=1000, upscaling_factor=50.0, max_replicas=4)
    assert plan_replicas(context(options, 0, 0, 1), ScalingState()).target == 4


def test_going_up_needs_the_whole_delay() -> None:
    deployment = Deployment(AutoscalingOptions(max_replicas=10, upscale_delay_s=30), target=1)
    assert [deployment.at(now, 8) for now in (0, 10, 29.9, 30)] == [1, 1, 1, 4]


def test_what_is_wanted_when_the_delay_ends_is_applied() -> None:
    deployment = Deployment(AutoscalingOptions(max_replicas=10, upscale_delay_s=30), target=1)
    assert [deployment.at(now, calls) for now, calls in ((0, 20), (15, 4), (30, 6))] == [1, 1, 3]


@pytest.mark.parametrize("interruption", [2.0, 0.5])
def test_equality_or_another_direction_begins_the_delay_anew(interruption: float) -> None:
    deployment = Deployment(AutoscalingOptions(max_replicas=10, upscale_delay_s=30), target=1)
    deployment.options = replace(deployment.options, min_replicas=0)
    deployment.at(0, 8)
    deployment.at(29, interruption)
    assert [deployment.at(now, 8) for now in (30, 59.9, 60)] == [1, 1, 4]


def test_after_a_change_the_delay_begins_anew() -> None:
    deployment = Deployment(AutoscalingOptions(max_replicas=10, upscale_delay_s=30), target=1)
    assert [deployment.at(now, 4) for now in (0, 30)] == [1, 2]
    assert [deployment.at(now, 8) for now in (31, 60.9, 61)] == [2, 2, 4]


def test_coming_down_has_its_own_delay_and_zero_another() -> None:
    options = AutoscalingOptions(
        min_replicas=0, max_replicas=10, downscale_delay_s=60, downscale_to_zero_delay_s=600, upscale_delay_s=0
    )
    deployment = Deployment(options, target=4)
    assert [deployment.at(now, 0) for now in (0, 59, 60)] == [4, 4, 1]
    assert [deployment.at(now, 0) for now in (61, 660.9, 661)] == [1, 1, 0]


def test_without_a_delay_of_its_own_zero_takes_the_downscale_delay() -> None:
    deployment = Deployment(replace(EAGER, downscale_delay_s=60), target=1)
    assert [deployment.at(now, 0) for now in (0, 59, 60)] == [1, 1, 0]


def test_a_target_outside_its_bounds_is_brought_inside_at_once() -> None:
    options = AutoscalingOptions(min_replicas=2, max_replicas=4)
    assert plan_replicas(context(options, 9, 9, 18), ScalingState()).target == 4
    assert plan_replicas(context(options, 1, 1, 0), ScalingState()).target == 2


def test_replicas_that_start_do_not_make_it_ask_for_more() -> None:
    options = replace(EAGER, upscale_delay_s=30)
    plan = plan_replicas(context(options, running=1, target=10, calls=20), ScalingState())
    assert (plan.target, plan.state.direction) == (10, 0)


def test_rounding_errors_of_a_constant_load_make_no_replica() -> None:
    assert plan_replicas(context(EAGER, 3, 3, 6.000000000001), ScalingState()).target == 3


def test_the_times_of_changes_are_remembered() -> None:
    deployment = Deployment(EAGER, target=1)
    deployment.at(5, 8)
    deployment.at(9, 2)
    deployment.at(12, 2)
    assert (deployment.state.last_up_at, deployment.state.last_down_at) == (5, 9)


def test_a_context_is_completed_with_what_was_measured_and_decided() -> None:
    state = ScalingState(last_up_at=3.0, policy_state={"seen": 1})
    told = scaling_context(context(EAGER, 1, 1, 0), MeasuredLoad(total=7, queued=2), Bounds(1, 5), state)
    assert (told.total_num_requests, told.total_queued_requests, told.total_running_requests) == (7, 2, 5)
    assert (told.capacity_adjusted_min_replicas, told.capacity_adjusted_max_replicas) == (1, 5)
    assert (told.policy_state, told.last_scale_up_time, told.last_scale_down_time) == ({"seen": 1}, 3.0, None)
    assert (told.app_name, told.deployment_name) == ("app", "model")


# -- users' policies ---------------------------------------------------------------------------------------------------


def test_a_policy_of_ones_own_keeps_its_state_and_is_delayed_and_bounded() -> None:
    def count_calls(told: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        seen = told.policy_state.get("seen", 0) + 1
        return 2.2 if seen < 3 else 1000, {"seen": seen}

    deployment = Deployment(AutoscalingOptions(max_replicas=10, upscale_delay_s=10), 1, count_calls)
    assert [deployment.at(now, 0) for now in (0, 10, 20, 30)] == [1, 3, 3, 10]
    assert deployment.state.policy_state == {"seen": 4}


def test_a_cold_start_does_not_ask_the_policy() -> None:
    def never(_: AutoscalingContext) -> tuple[float, None]:
        raise AssertionError("asked")

    plan = plan_replicas(context(EAGER, 0, 0, 1), ScalingState(policy_state={"kept": True}), never)
    assert (plan.target, plan.state.policy_state) == (1, {"kept": True})


@pytest.mark.parametrize("answer", [3, (1, 2, 3), ("3", {}), (True, {}), (1, "state"), None])
def test_an_answer_of_the_wrong_shape_is_a_type_error(answer: Any) -> None:
    with pytest.raises(TypeError, match="autoscaling policy"):
        plan_replicas(context(EAGER, 1, 1, 1), ScalingState(), lambda _: answer)


@pytest.mark.parametrize("count", [float("nan"), float("inf")])
def test_an_answer_that_is_no_finite_number_is_a_value_error(count: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        plan_replicas(context(EAGER, 1, 1, 1), ScalingState(), lambda _: (count, {}))


def test_an_application_policy_decides_for_all_and_leaves_out_whom_it_likes() -> None:
    contexts = {
        MODEL: context(EAGER, 1, 1, 0),
        FRONT: context(EAGER, 2, 2, 100, deployment=FRONT),
    }
    plans = plan_application(contexts, {}, lambda told: ({MODEL: 4.5}, {MODEL: {"app": len(told)}}))
    assert {deployment.name: plan.target for deployment, plan in plans.items()} == {"model": 5, "front": 2}
    assert plans[MODEL].state.policy_state == {"app": 2}


def test_an_application_policy_cannot_keep_waiting_calls_from_their_first_replica() -> None:
    plans = plan_application({MODEL: context(EAGER, 0, 0, 3)}, {}, lambda _: ({}, None))
    assert plans[MODEL].target == 1


def test_an_application_policy_must_know_its_deployments() -> None:
    with pytest.raises(ValueError, match="app#front"):
        plan_application({MODEL: context(EAGER, 1, 1, 1)}, {}, lambda _: ({FRONT: 1}, None))


# -- whatever happens --------------------------------------------------------------------------------------------------

options_drawn = st.builds(
    lambda low, span, target, up, down, up_delay, down_delay, zero_delay: AutoscalingOptions(
        min_replicas=low,
        max_replicas=max(1, low + span),
        target_ongoing_requests=target,
        upscaling_factor=up,
        downscaling_factor=down,
        upscale_delay_s=up_delay,
        downscale_delay_s=down_delay,
        downscale_to_zero_delay_s=zero_delay,
    ),
    st.integers(0, 5),
    st.integers(0, 20),
    st.floats(0.5, 20),
    st.none() | st.floats(0.1, 3),
    st.none() | st.floats(0.1, 3),
    st.floats(0, 60),
    st.floats(0, 60),
    st.none() | st.floats(0, 60),
)
history_drawn = st.lists(st.tuples(st.floats(0.1, 30), st.floats(0, 200)), min_size=1, max_size=40)


def follow(
    options: AutoscalingOptions, target: int, history: list[tuple[float, float]]
) -> list[tuple[int, ScalingPlan]]:
    state, now = ScalingState(), 0.0
    seen = []
    for gap, calls in history:
        now += gap
        plan = plan_replicas(context(options, target, target, calls, now), state)
        seen.append((target, plan))
        target, state = plan.target, plan.state
    return seen


@given(options_drawn, history_drawn)
def test_targets_stay_in_bounds_and_zero_comes_only_after_one(
    options: AutoscalingOptions, history: list[tuple[float, float]]
) -> None:
    start = max(1, options.min_replicas)
    for before, plan in follow(options, start, history):
        assert options.min_replicas <= plan.target <= options.max_replicas
        if plan.target == 0:
            assert before <= 1


@given(options_drawn, history_drawn)
def test_no_change_comes_sooner_than_its_delay(options: AutoscalingOptions, history: list[tuple[float, float]]) -> None:
    start = max(1, options.min_replicas)
    now, changed_at = 0.0, 0.0
    for (gap, _), (before, plan) in zip(history, follow(options, start, history), strict=True):
        now += gap
        if plan.target > before > 0:
            assert now - changed_at >= options.upscale_delay_s - 1e-6
        if 0 < plan.target < before:
            assert now - changed_at >= options.downscale_delay_s - 1e-6
        if plan.target != before:
            changed_at = now


@given(st.integers(0, 400), st.floats(0.5, 20))
def test_a_steady_load_without_factors_comes_to_rest_at_what_it_needs(calls: int, per_replica: float) -> None:
    options = replace(EAGER, target_ongoing_requests=per_replica, max_replicas=1000)
    plans = follow(options, 1, [(1.0, float(calls))] * 5)
    final = plans[-1][1].target
    assert final == plans[-2][1].target
    assert final * per_replica >= calls - 1e-5
    assert (final - 1) * per_replica < calls or final == 0
