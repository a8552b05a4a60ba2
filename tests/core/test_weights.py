"""What a change of options costs."""

from dataclasses import replace

import pytest
from control_pictures import wanted

from meshserve.core.weights import build_version, changes_only_count, needs_reconfigure
from meshserve.model.options import (
    AutoscalingOptions,
    BackpressureOptions,
    DeploymentOptions,
    GangOptions,
    RouterOptions,
)

PLAIN = DeploymentOptions(autoscaling_config=AutoscalingOptions())

LIGHT = [
    {"num_replicas": 7},
    {"max_queued_requests": 3},
    {"rolling_update_percentage": 1.0},
    {"max_surge_percent": 50},
    {"graceful_shutdown_timeout_s": 1.0},
    {"health_check_period_s": 1.0},
    {"health_check_timeout_s": 1.0},
    {"max_constructor_retry_count": 1},
    {"autoscaling_config": AutoscalingOptions(max_replicas=9)},
]
IN_PLACE = [
    {"max_ongoing_requests": 9},
    {"user_config": {"a": 1}},
    {"graceful_shutdown_wait_loop_s": 1.0},
    {"backpressure_config": BackpressureOptions(429)},
    {"request_router_config": RouterOptions("round_robin")},
    {"logging_config": {"log_level": "DEBUG"}},
    {"autoscaling_config": AutoscalingOptions(metrics_interval_s=1.0)},
    {"autoscaling_config": AutoscalingOptions(look_back_period_s=1.0)},
]
HEAVY = [
    {"ray_actor_options": {"num_cpus": 2}},
    {"placement_group_bundles": ({"CPU": 1},)},
    {"placement_group_strategy": "SPREAD"},
    {"max_replicas_per_node": 1},
    {"gang_scheduling_config": GangOptions(2)},
    {"gang_scheduling_config": GangOptions(2, "SPREAD")},
]


@pytest.mark.parametrize("change", LIGHT)
def test_light_changes_touch_no_replica(change):
    after = replace(PLAIN, **change)
    assert build_version("v1", after) == build_version("v1", PLAIN)
    assert not needs_reconfigure(PLAIN, after)


@pytest.mark.parametrize("change", IN_PLACE)
def test_changes_in_place_are_sent_to_replicas(change):
    after = replace(PLAIN, **change)
    assert build_version("v1", after) == build_version("v1", PLAIN)
    assert needs_reconfigure(PLAIN, after)


@pytest.mark.parametrize("change", HEAVY)
def test_heavy_changes_need_another_process(change):
    assert build_version("v1", replace(PLAIN, **change)) != build_version("v1", PLAIN)


def test_other_code_needs_another_process():
    assert build_version("v2", PLAIN) != build_version("v1", PLAIN)


def test_only_the_number_of_replicas_changes():
    assert changes_only_count(wanted(number=1), wanted(number=5))
    assert not changes_only_count(wanted(), wanted(user_config=1))
    assert not changes_only_count(wanted("v1"), wanted("v2"))
