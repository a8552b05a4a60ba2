"""Actors that replicas share, by a real controller over loopback: made before replicas, taken over, gone with them."""

import base64

import cloudpickle
from conditions import until
from controller_mesh import application, local_mesh

from meshserve.core.weights import actors_version, build_version
from meshserve.model.ids import ActorId, DeploymentId
from meshserve.model.options import ActorOptions
from meshserve.model.process_names import actor_name

COUNTER = ActorOptions("counter", "app:Counter", class_pickle=base64.b64encode(cloudpickle.dumps(dict)).decode())


def name_of(spec, name="counter"):
    deployment = spec.deployments[0]
    version = build_version(deployment.code_version, deployment.options)
    return actor_name(ActorId(DeploymentId("app", "Model"), actors_version(version, deployment.options), name))


async def test_replicas_wait_for_the_actors_they_share():
    spec = application(deployment_actors=(COUNTER,))
    async with local_mesh() as mesh:
        actors = mesh.launcher.actors
        actors.constructed.clear()
        await mesh.apply(spec)
        await until(lambda: actors.made)
        status = await mesh.wait(lambda status: "deployment actors" in status.applications[0].message)
        assert status.applications[0].message == "Model: 0 of 1 deployment actors are ready."
        assert not mesh.replicas
        actors.constructed.set()
        await mesh.until_state("RUNNING")
        assert list(actors.running) == [name_of(spec)]
        [made] = actors.made
        assert cloudpickle.loads(made.class_pickle) is dict
        assert made.actor_options["runtime_env"]["env_vars"]["RAY_SERVE_INTERNAL_DEPLOYMENT_NAME"] == "Model"
        await mesh.delete("app")
        await until(lambda: not actors.running)


async def test_an_actor_that_dies_is_made_anew():
    spec = application(deployment_actors=(COUNTER,))
    async with local_mesh() as mesh:
        actors = mesh.launcher.actors
        await mesh.apply(spec)
        await mesh.until_state("RUNNING")
        actors.constructed.clear()
        await actors.kill(name_of(spec))
        await mesh.until_state("UNHEALTHY")
        actors.constructed.set()
        await mesh.until_state("RUNNING")
        assert len(actors.made) == 2


async def test_a_failing_constructor_of_an_actor_fails_the_deployment():
    async with local_mesh() as mesh:
        mesh.launcher.actors.constructor_failure = "ValueError: no"
        await mesh.apply(application(deployment_actors=(COUNTER,), max_constructor_retry_count=2))
        status = await mesh.until_state("DEPLOY_FAILED")
        assert status.deployments[0].status_trigger == "DEPLOYMENT_ACTOR_FAILED"
        assert "failed to start deployment actors 2 times in a row" in status.message
        assert "Deployment actor 'counter' failed: ValueError: no" in status.message
        assert not mesh.replicas


async def test_a_restarted_controller_takes_actors_over():
    spec = application(deployment_actors=(COUNTER,))
    async with local_mesh() as mesh:
        actors = mesh.launcher.actors
        await mesh.apply(spec)
        await mesh.until_state("RUNNING")
        await mesh.restart_controller()
        await mesh.until_state("RUNNING")
        assert len(actors.made) == 1
        await actors.kill(name_of(spec))
        await until(lambda: len(actors.made) == 2)
        await mesh.until_state("RUNNING")
