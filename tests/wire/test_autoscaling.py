"""Autoscaling by a real controller over loopback: a router's reports become replicas."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
from conditions import until
from controller_mesh import LocalMesh, Watcher, application, local_mesh

from meshserve.config import AutoscalingConfig, AutoscalingPolicy
from meshserve.model.autoscaling import AutoscalingContext
from meshserve.model.control import ApplicationSpec
from meshserve.model.ids import DeploymentId
from meshserve.model.options import AutoscalingOptions
from meshserve.testing.fakes import FakeReplica
from meshserve.v1 import watch_pb2

MODEL = DeploymentId("app", "Model")


def scaled(**options: Any) -> ApplicationSpec:
    """An application scaled without delays."""
    fast = {"upscale_delay_s": 0.0, "downscale_delay_s": 0.0, "look_back_period_s": 0.1, "max_replicas": 4}
    config = AutoscalingOptions(**{**fast, **options})
    return replace(application(autoscaling_config=config), external_scaler_enabled=False)


async def report(watcher: Watcher, queued: int, running: int) -> None:
    """The router at the other end of a stream has so many calls in hand."""
    key = watch_pb2.DeploymentKey(app=MODEL.app, deployment=MODEL.name)
    load = watch_pb2.RouterReport(key=key, queued=queued, running=running)
    await watcher.stream.write(watch_pb2.WatchRequest(reports=[load]))


async def until_running(mesh: LocalMesh, count: int) -> None:
    """Waits until so many replicas run and no others are left."""
    await mesh.wait(
        lambda status: (
            dict(status.applications[0].deployments[0].replica_states) == ({"RUNNING": count} if count else {})
        )
    )


def always_three(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """A user's policy."""
    return 3, {}


def broken(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """A user's policy that fails."""
    raise ValueError("no idea")


def backlog(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """A user's policy that looks at what replicas say of themselves."""
    now = time.time()
    assert abs(context.current_time - now) < 60
    latest = [series[-1].value for series in context.raw_metrics.get("backlog", {}).values()]
    assert list(context.aggregated_metrics.get("backlog", {})) == list(context.raw_metrics.get("backlog", {}))
    assert all(abs(series[-1].timestamp - now) < 60 for series in context.raw_metrics.get("backlog", {}).values())
    return max(latest, default=1), {}


class OneMore:
    """A user's policy that counts its own calls."""

    def __init__(self, upto: int) -> None:
        self.upto = upto
        self.asked = 0

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        self.asked = min(self.asked + 1, self.upto)
        return self.asked, {}


class Counting:
    """Begins a task when it is made, which counts, and wants what was counted."""

    def __init__(self, upto: int) -> None:
        self._counted = 0
        self._task = asyncio.get_running_loop().create_task(self._count(upto))

    async def _count(self, upto: int) -> None:
        while self._counted < upto:
            self._counted += 1
            await asyncio.sleep(0)

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        assert asyncio.get_running_loop() is self._task.get_loop()
        return max(1, self._counted), {}


def two_for_each_of_the_other(contexts: Any) -> tuple[dict[DeploymentId, float], None]:
    """A user's policy for an application: one deployment follows another one's load."""
    named = {deployment.name: context for deployment, context in contexts.items()}
    return {named["Helper"].deployment_id: named["Model"].total_num_requests * 2}, None


def elsewhere(app: ApplicationSpec) -> Any:
    """The deployments of an application, for one called `other`."""
    return tuple(replace(one, id=DeploymentId("other", one.id.name)) for one in app.deployments)


def has_status(state: str, trigger: str) -> Callable[[Any], bool]:
    """Whether the deployment is in a state for a reason."""

    def check(status: Any) -> bool:
        found = status.applications[0].deployments[0]
        return (found.status, found.status_trigger) == (state, trigger)

    return check


def running(status: Any, app: str, deployment: str = "Model") -> int:
    """The replicas that run."""
    for one in status.applications:
        for found in one.deployments:
            if (one.name, found.name) == (app, deployment):
                return dict(found.replica_states).get("RUNNING", 0)
    return 0


async def test_replicas_follow_the_calls_in_hand_up_and_down():
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        await mesh.apply(scaled())
        await until_running(mesh, 1)
        await report(watcher, 4, 2)
        await until_running(mesh, 3)
        await report(watcher, 0, 0)
        await until_running(mesh, 1)


async def test_a_waiting_call_starts_the_first_replica_and_without_calls_none_stays():
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        await mesh.apply(scaled(min_replicas=0))
        await mesh.until_state("RUNNING")
        assert not mesh.replicas
        await report(watcher, 1, 0)
        await until_running(mesh, 1)
        await report(watcher, 0, 0)
        await until_running(mesh, 0)


async def test_calls_of_a_lost_router_hold_no_replicas():
    async with local_mesh() as mesh:
        await mesh.apply(scaled())
        await until_running(mesh, 1)
        async with mesh.watching(MODEL) as watcher:
            await report(watcher, 0, 6)
            await until_running(mesh, 3)
        await until_running(mesh, 1)


async def test_load_that_was_there_before_it_was_scaled_counts():
    fixed = replace(scaled(), deployments=application().deployments)
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        await mesh.apply(fixed)
        await report(watcher, 0, 6)
        await until_running(mesh, 1)
        await mesh.apply(scaled())
        await until_running(mesh, 3)


async def test_status_says_that_the_autoscaler_is_at_work_and_when_it_is_done():
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        await mesh.apply(scaled())
        await mesh.wait(has_status("HEALTHY", "CONFIG_UPDATE_COMPLETED"))
        mesh.launcher.room.clear()
        await report(watcher, 4, 2)
        await mesh.wait(has_status("UPSCALING", "AUTOSCALING"))
        mesh.launcher.room.set()
        await mesh.wait(has_status("HEALTHY", "UPSCALE_COMPLETED"))
        for replica in mesh.replicas:
            replica.drained.clear()
        await report(watcher, 0, 0)
        await mesh.wait(has_status("DOWNSCALING", "AUTOSCALING"))
        for replica in mesh.replicas:
            replica.drained.set()
        await mesh.wait(has_status("HEALTHY", "DOWNSCALE_COMPLETED"))


async def test_a_controller_that_comes_back_takes_no_replica_away_before_it_has_heard_of_the_load():
    async with local_mesh() as mesh:
        await mesh.apply(scaled())
        async with mesh.watching(MODEL) as watcher:
            await report(watcher, 0, 6)
            await until_running(mesh, 3)
        await mesh.restart_controller()
        await mesh.until_state("RUNNING")
        async with mesh.watching(MODEL) as watcher:
            await report(watcher, 2, 6)
            await until_running(mesh, 4)
        assert len(mesh.launcher.replicas) == 4, "a replica was stopped and started again"


async def test_a_controller_that_dies_while_it_scales_up_ends_what_was_begun():
    async with local_mesh() as mesh:
        await mesh.apply(scaled())
        await until_running(mesh, 1)
        mesh.launcher.room.clear()
        async with mesh.watching(MODEL) as watcher:
            await report(watcher, 6, 0)
            await mesh.wait(has_status("UPSCALING", "AUTOSCALING"))
        await mesh.restart_controller()
        mesh.launcher.room.set()
        async with mesh.watching(MODEL) as watcher:
            await report(watcher, 0, 6)
            await until_running(mesh, 3)


async def test_a_deployment_begins_with_its_initial_replicas():
    async with local_mesh() as mesh:
        await mesh.apply(scaled(initial_replicas=2, downscale_delay_s=600.0))
        await until_running(mesh, 2)


async def test_a_policy_named_by_its_import_path_decides():
    async with local_mesh() as mesh:
        await mesh.apply(scaled(policy_function=f"{__name__}:always_three"))
        await until_running(mesh, 3)


async def test_a_policy_without_an_import_path_travels_by_value():
    options = AutoscalingConfig(policy=AutoscalingPolicy(lambda context: (2, {}))).to_options()
    async with local_mesh() as mesh:
        await mesh.apply(scaled(policy_function=options.policy_function, policy_pickle=options.policy_pickle))
        await until_running(mesh, 2)


async def test_a_policy_class_is_made_once_for_each_deployment_and_keeps_its_state():
    async with local_mesh() as mesh:
        policy = {"policy_function": f"{__name__}:OneMore", "policy_kwargs": {"upto": 3}}
        await mesh.apply(scaled(**policy))
        await until_running(mesh, 3)
        await mesh.apply(replace(scaled(**policy), name="other", deployments=elsewhere(scaled(**policy))))
        await mesh.wait(lambda status: running(status, "other") == 3)  # it began at 1 again


async def test_a_policy_may_begin_tasks_and_decide_by_what_they_find():
    async with local_mesh() as mesh:
        await mesh.apply(scaled(policy_function=f"{__name__}:Counting", policy_kwargs={"upto": 3}))
        await until_running(mesh, 3)


async def test_a_policy_ends_when_nothing_is_scaled_by_it_any_more():
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("policy ")]

    async with local_mesh() as mesh:
        for end in (lambda: mesh.apply(scaled()), lambda: mesh.delete("app")):
            await mesh.apply(scaled(policy_function=f"{__name__}:always_three"))
            await until(lambda: threads() == [f"policy {MODEL}"])
            await end()
            await until(lambda: not threads())


@pytest.mark.parametrize(
    "policy",
    [
        {"policy_function": f"{__name__}:two_for_each_of_the_other"},
        asdict(AutoscalingPolicy(lambda contexts: two_for_each_of_the_other(contexts))),
    ],
    ids=["by its import path", "by value"],
)
async def test_a_policy_of_the_application_decides_for_all_its_deployments(policy):
    options = scaled().deployments[0].options
    app = application(deployments=("Model", "Helper"))
    both = tuple(replace(one, options=options) for one in app.deployments)
    app = replace(app, deployments=both, external_scaler_enabled=False)
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        await mesh.apply(replace(app, autoscaling_policy_json=json.dumps(policy)))
        await mesh.until_state("RUNNING")
        await report(watcher, 0, 2)
        await mesh.wait(lambda status: running(status, "app", "Helper") == 4 and running(status, "app") == 1)


async def test_replicas_measure_themselves_for_a_policy_and_are_asked_again():
    def measure(fake: Any) -> None:
        if isinstance(fake, FakeReplica):
            fake.measured.autoscaling_stats_json = '{"backlog": 2}'

    async with local_mesh() as mesh:
        mesh.launcher.prepare = measure
        await mesh.apply(scaled(policy_function=f"{__name__}:backlog"))
        await until_running(mesh, 2)
        for replica in mesh.replicas:
            replica.measured.autoscaling_stats_json = '{"backlog": 4}'
        await until_running(mesh, 4)


async def test_a_policy_that_fails_keeps_the_replicas_and_is_logged(caplog):
    async with local_mesh() as mesh:
        await mesh.apply(scaled(policy_function=f"{__name__}:broken", initial_replicas=2))
        await until_running(mesh, 2)
        await until(lambda: "no idea" in caplog.text)
        assert len(mesh.replicas) == 2
