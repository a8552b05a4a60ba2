"""Applications from Apply to Delete, by a real controller over loopback."""

import asyncio

import pytest
from conditions import until
from controller_mesh import application, local_mesh

from meshserve.model.ids import DeploymentId
from meshserve.testing.fakes import FakeReplica
from meshserve.v1 import controller_pb2, watch_pb2

MODEL = DeploymentId("app", "Model")


async def test_an_applied_application_runs_with_the_wanted_replicas():
    async with local_mesh() as mesh:
        generation = await mesh.apply(application(num_replicas=2))
        status = await mesh.until_state("RUNNING")
        assert status.generation == generation
        assert status.deployments[0].status == "HEALTHY"
        assert dict(status.deployments[0].replica_states) == {"RUNNING": 2}
        assert {replica.request.code for replica in mesh.replicas} == {b"code-v1"}
        assert sorted(replica.request.rank.rank for replica in mesh.replicas) == [0, 1]


async def test_status_right_after_apply_knows_the_application():
    async with local_mesh() as mesh:
        generation = await mesh.apply(application())
        status = await mesh.status()
        assert [one.name for one in status.applications] == ["app"]
        assert status.generation == generation


async def test_watchers_see_ready_replicas_and_the_route():
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        await mesh.apply(application(num_replicas=2, prefix="/app"))
        tags = await watcher.until_replicas(2)
        assert tags == {replica.request.replica_tag for replica in mesh.replicas}
        await watcher.until(lambda seen: seen.routes is not None and seen.routes.applications)
        assert watcher.routes is not None
        assert watcher.routes.applications[0].route_prefix == "/app"
        assert watcher.versions == sorted(watcher.versions)


async def test_an_unknown_deployment_is_said_not_to_exist():
    async with local_mesh() as mesh, mesh.watching(DeploymentId("nobody", "Nothing")) as watcher:
        await watcher.until(lambda seen: seen.targets is not None)
        assert watcher.targets is not None and not watcher.targets.exists


async def test_scaling_changes_what_runs():
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        await mesh.apply(application())
        await mesh.until_state("RUNNING")
        for count in (3, 1):
            key = watch_pb2.DeploymentKey(app="app", deployment="Model")
            await mesh.call("Scale", controller_pb2.ScaleRequest(key=key, target_num_replicas=count))
            await watcher.until_replicas(count)
            await until(lambda count=count: len(mesh.replicas) == count)


async def test_a_deleted_application_drains_and_goes_away():
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        await mesh.apply(application())
        await watcher.until_replicas(1)
        replica = mesh.replicas[0]
        replica.drained.clear()
        await mesh.delete("app")
        await mesh.until_state("DELETING")
        await watcher.until(lambda seen: seen.targets is not None and not seen.targets.exists)
        await until(lambda: replica.drains)
        assert mesh.replicas == [replica], "it was killed before it had ended its calls"
        replica.drained.set()
        await mesh.wait(lambda status: not status.applications)
        assert not mesh.replicas
        assert not [key for key in mesh.store.values if key.startswith(("app/", "code/"))]


async def test_callers_end_before_those_they_call():
    async with local_mesh() as mesh:
        await mesh.apply(application(deployments=("Ingress", "Model")))
        await mesh.until_state("RUNNING")
        ingress, model = sorted(mesh.replicas, key=lambda replica: replica.request.deployment)
        ingress.drained.clear()
        await mesh.delete("app")
        await until(lambda: ingress.drains)
        assert not model.drains
        ingress.drained.set()
        await until(lambda: model.drains)


async def test_a_dead_replica_is_replaced():
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        await mesh.apply(application(num_replicas=2))
        before = await watcher.until_replicas(2)
        await mesh.launcher.kill(next(iter(mesh.launcher.running)))
        await watcher.until_replicas(1)
        after = await watcher.until_replicas(2)
        assert len(before & after) == 1
        await mesh.until_state("RUNNING")


async def test_an_unhealthy_replica_is_replaced():
    async with local_mesh() as mesh:
        await mesh.apply(application(health_check_period_s=0.01))
        await mesh.until_state("RUNNING")
        sick = mesh.replicas[0]
        sick.health_failure = "I am sick"
        await until(lambda: sick.drains)  # it is given time to end its calls
        await mesh.wait(
            lambda status: (
                [one.replica_tag for one in status.applications[0].deployments[0].replicas]
                != [sick.request.replica_tag]
            )
        )
        status = await mesh.until_state("RUNNING")
        assert len(status.deployments[0].replicas) == 1


async def test_a_constructor_that_raises_is_given_up_with_its_text():
    async with local_mesh() as mesh:

        def fail(fake: object) -> None:
            if isinstance(fake, FakeReplica):
                fake.constructor_failure = "ValueError: no weights"

        mesh.launcher.prepare = fail
        await mesh.apply(application())
        status = await mesh.until_state("DEPLOY_FAILED")
        assert "no weights" in status.message
        assert status.deployments[0].status_trigger == "REPLICA_STARTUP_FAILED"
        assert len(mesh.launcher.replicas) == 3
        await until(lambda: not mesh.replicas)


async def test_a_new_version_replaces_every_replica():
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        await mesh.apply(application(num_replicas=3))
        before = await watcher.until_replicas(3)
        await mesh.until_state("RUNNING")
        generation = await mesh.apply(application(version="v2", num_replicas=3))
        await mesh.wait(
            lambda status: (
                status.applications[0].status == "RUNNING" and status.applications[0].generation == generation
            )
        )
        assert {replica.request.code_version for replica in mesh.replicas} == {"v2"}
        assert not before & {replica.request.replica_tag for replica in mesh.replicas}
        assert not [key for key in mesh.store.values if key.endswith("/v1")]


async def test_a_failed_update_keeps_the_old_version_in_service():
    async with local_mesh() as mesh, mesh.watching(MODEL) as watcher:
        await mesh.apply(application(num_replicas=2))
        await mesh.until_state("RUNNING")

        def fail(fake: object) -> None:
            if isinstance(fake, FakeReplica):
                fake.constructor_failure = "ValueError: the new version is broken"

        mesh.launcher.prepare = fail
        await mesh.apply(application(version="v2", num_replicas=2, max_constructor_retry_count=2))
        await mesh.until_state("DEPLOY_FAILED")
        await watcher.until_replicas(1)
        assert [replica.request.code_version for replica in mesh.replicas if replica.ready] == ["v1"]


async def test_user_config_is_taken_in_place():
    async with local_mesh() as mesh:
        await mesh.apply(application(user_config={"a": 1}))
        await mesh.until_state("RUNNING")
        replica = mesh.replicas[0]
        await mesh.apply(application(user_config={"a": 2}))
        await mesh.wait(lambda status: status.applications[0].status == "RUNNING" and replica.reconfigured)
        assert mesh.replicas == [replica]
        assert '"a": 2' in replica.reconfigured[0].options_json


async def test_a_replica_without_room_is_said_to_wait_for_resources():
    async with local_mesh() as mesh:
        mesh.launcher.room.clear()
        await mesh.apply(application())
        status = await mesh.wait(lambda found: "CPU (needs 1, free 0 of 2)" in found.applications[0].message)
        assert status.applications[0].status == "DEPLOYING"
        await mesh.delete("app")
        await mesh.wait(lambda status: not status.applications)


async def test_a_waiting_constructor_is_named():
    async with local_mesh() as mesh:

        def stall(fake: object) -> None:
            if isinstance(fake, FakeReplica):
                fake.constructed.clear()

        mesh.launcher.prepare = stall
        await mesh.apply(application())
        await mesh.wait(lambda status: "constructor" in status.applications[0].message)
        mesh.replicas[0].constructed.set()
        await mesh.until_state("RUNNING")


@pytest.mark.parametrize("count", [1, 3])
async def test_shutdown_leaves_nothing_and_answers_soon(count):
    async with local_mesh() as mesh:
        await mesh.start_proxies()
        await mesh.apply(application(num_replicas=count, graceful_shutdown_wait_loop_s=2.0))
        await mesh.until_state("RUNNING")
        async with asyncio.timeout(2):
            await mesh.call("Shutdown", controller_pb2.ShutdownRequest())
        assert not mesh.launcher.running
        assert not mesh.store.values


@pytest.mark.parametrize(("packed", "spread"), [("0", True), ("1", False)])
async def test_replicas_are_spread_over_the_machines_unless_the_cluster_packs_them(monkeypatch, packed, spread):
    monkeypatch.setenv("RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY", packed)
    async with local_mesh() as mesh:
        await mesh.apply(application())
        await mesh.until_state("RUNNING")
        (process,) = mesh.launcher.running.values()
        assert process.spec.spread is spread
