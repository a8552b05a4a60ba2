"""What the controller counts of its actions and of what it hears, and its overview as numbers."""

from __future__ import annotations

import asyncio
from typing import Any

from meshserve.api.details import details_of
from meshserve.core import actions as ac
from meshserve.core import events as ev
from meshserve.core.plan import Plan
from meshserve.core.seen import Introduction, Seen
from meshserve.model.control import Desired
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.overview import ApplicationOverview, DeploymentOverview, MeshOverview, ProxyOverview
from meshserve.telemetry.control import ControlMetrics, OverviewMetrics
from meshserve.telemetry.loop_lag import watch_loop
from meshserve.telemetry.series import Histogram, Recorder
from meshserve.wire.details import details_from_proto
from meshserve.wire.status import ControllerIdentity, status_to_proto

MODEL = DeploymentId("shop", "Model")
REPLICA = ReplicaId(MODEL, "r1")


def readings(recorder: Recorder) -> dict[tuple[Any, ...], float]:
    """Values by name and labels; of a histogram the sum and, under `_count`, how many."""
    found: dict[tuple[Any, ...], float] = {}
    for declared, labels, value in recorder.read():
        if isinstance(value, Histogram):
            found[(f"{declared.name}_count", *labels)] = value.count
            value = value.total
        found[(declared.name, *labels)] = value
    return found


def start(replica: ReplicaId) -> ac.StartReplica:
    """The action; what else it says does not matter here."""
    action = object.__new__(ac.StartReplica)
    object.__setattr__(action, "replica", replica)
    return action


def test_actions_are_counted_by_kind() -> None:
    metrics = ControlMetrics()
    for action in (start(REPLICA), ac.KillReplica(REPLICA), ac.KillReplica(REPLICA)):
        metrics.ordered(action, 0.0)
    found = readings(metrics)
    assert found["meshserve_control_actions_total", "start_replica"] == 1
    assert found["meshserve_control_actions_total", "kill_replica"] == 2


def test_a_start_takes_from_the_decision_to_ready() -> None:
    metrics = ControlMetrics()
    metrics.ordered(start(REPLICA), 10.0)
    metrics.heard(ev.ReplicaReady(REPLICA, Introduction()), 14.5)
    metrics.heard(ev.ReplicaReady(ReplicaId(MODEL, "found"), Introduction()), 15.0)  # not started by this controller
    found = readings(metrics)
    assert found["meshserve_replica_start_duration_seconds", "shop", "Model"] == 4.5
    assert found["meshserve_replica_start_duration_seconds_count", "shop", "Model"] == 1


def test_failed_starts_and_health_checks_are_counted_by_deployment() -> None:
    metrics = ControlMetrics()
    metrics.ordered(start(REPLICA), 10.0)
    metrics.heard(ev.ReplicaFailed(REPLICA, "no"), 11.0)
    metrics.heard(ev.ReplicaUnhealthy(REPLICA, "no"), 12.0)
    metrics.heard(ev.ProxyUnreachable("node", "no"), 12.0)
    found = readings(metrics)
    assert found["meshserve_replica_start_failures_total", "shop", "Model"] == 1
    assert found["meshserve_replica_health_check_failures_total", "shop", "Model"] == 1
    assert found["meshserve_control_failures_total", "proxy_unreachable"] == 1
    assert ("meshserve_replica_start_duration_seconds", "shop", "Model") not in found


def test_what_the_autoscaler_wanted_is_forgotten_with_its_deployment() -> None:
    metrics = ControlMetrics()
    metrics.scaled(MODEL, 3, 7.5)
    assert readings(metrics)["meshserve_autoscaling_target_replicas", "shop", "Model"] == 3
    assert readings(metrics)["meshserve_autoscaling_calls", "shop", "Model"] == 7.5
    metrics.keep_scaled({})
    assert ("meshserve_autoscaling_calls", "shop", "Model") not in readings(metrics)


def test_a_status_is_one_for_what_it_is_and_zero_for_what_it_could_be() -> None:
    metrics = OverviewMetrics()
    assert readings(metrics) == {}
    model = DeploymentOverview("Model", "UPSCALING", "AUTOSCALING", "", {"RUNNING": 2, "STARTING": 1}, 3)
    mesh = MeshOverview(
        {"shop": ApplicationOverview("shop", "RUNNING", deployments=(model,))},
        {"node": ProxyOverview("node", "HEALTHY")},
    )
    metrics.overview = lambda: mesh
    found = readings(metrics)
    assert found["meshserve_deployment_replicas", "shop", "Model", "STARTING"] == 1
    assert found["meshserve_deployment_target_replicas", "shop", "Model"] == 3
    on = {key[:1] + key[-1:] for key, value in found.items() if key[0].endswith("_status") and value == 1}
    assert on == {
        ("meshserve_application_status", "RUNNING"),
        ("meshserve_deployment_status", "UPSCALING"),
        ("meshserve_proxy_status", "HEALTHY"),
    }
    assert found["meshserve_proxy_status", "node", "DRAINED"] == 0


async def test_the_controller_tells_how_it_does() -> None:
    metrics = ControlMetrics()
    for seconds in (0.1, 0.3):
        metrics.turned(seconds)
    watch_loop("io", asyncio.get_running_loop())
    health = await asyncio.to_thread(metrics.health)  # as a scrape does
    assert (health.turns, health.turn_durations_s) == (2, (0.1, 0.3))
    assert health.started_at <= health.turned_at <= health.now and health.tasks >= 1
    status = status_to_proto(Plan(Desired(), Seen()), ControllerIdentity(health=health), 0.0)
    told = details_of(details_from_proto(status), "").controller_health_metrics
    assert told is not None and told.loop_duration_s is not None
    assert told.num_control_loops == 2 and told.uptime_s >= 0
    assert (told.loop_duration_s.mean, told.loop_duration_s.max) == (0.2, 0.3)
