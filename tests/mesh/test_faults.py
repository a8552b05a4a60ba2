"""What a person sees when processes die: only what the dead had accepted is lost, and they come back."""

import asyncio
import os
import signal
import time

import ray

import meshserve as serve
from meshserve.exceptions import ReplicaDiedError
from meshserve.settings import CONTROLLER_NAME, NAMESPACE

LIMIT = 4


@serve.deployment(num_replicas=2, max_ongoing_requests=LIMIT, ray_actor_options={"num_cpus": 0})
class Worker:
    async def __call__(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()


def wait_until(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)


async def load(handle, stop):
    """Keeps sixteen calls going, more than both replicas take at a time; the outcomes."""
    outcomes = []

    async def caller():
        while not stop():
            try:
                outcomes.append(await handle.remote(0.01))
            except ReplicaDiedError as error:
                outcomes.append(error)

    await asyncio.gather(*(caller() for _ in range(16)))
    return outcomes


def test_killing_a_replica_under_load_loses_only_what_it_had_accepted_and_it_comes_back(run):
    app = run(Worker.bind())
    victims = {app.handle.remote(0.01).result() for _ in range(20)}
    assert len(victims) == 2
    killed = []

    async def scenario():
        since = time.monotonic()

        def stop():
            if not killed and time.monotonic() - since > 0.5:
                killed.append(min(victims))
                os.kill(killed[0], signal.SIGKILL)
            return time.monotonic() - since > 2.0

        return await load(app.handle, stop)

    outcomes = asyncio.run(scenario())
    lost = [outcome for outcome in outcomes if isinstance(outcome, ReplicaDiedError)]
    assert 0 < len(lost) <= LIMIT
    assert len(outcomes) > 100

    def healed():
        (deployment,) = serve.status().applications[app.name].deployments.values()
        return deployment.status == "HEALTHY" and deployment.replica_states == {"RUNNING": 2}

    wait_until(healed)
    wait_until(lambda: len({app.handle.remote(0.0).result() for _ in range(20)} - set(killed)) == 2)


def test_killing_the_controller_leaves_the_data_plane_serving_and_the_state_as_it_was(run):
    app = run(Worker.bind())
    before = {app.handle.remote(0.01).result() for _ in range(20)}
    controller = controller_pid()
    os.kill(controller, signal.SIGKILL)
    for _ in range(20):
        assert app.handle.remote(0.01).result(timeout_s=10) in before
    wait_until(lambda: controller_pid() not in (0, controller))

    def recovered():
        (deployment,) = serve.status().applications[app.name].deployments.values()
        return deployment.status == "HEALTHY" and deployment.replica_states == {"RUNNING": 2}

    wait_until(recovered)
    assert {app.handle.remote(0.01).result() for _ in range(20)} == before


def controller_pid():
    """The controller's process; 0 while it is being restarted."""
    try:
        return ray.get(ray.get_actor(CONTROLLER_NAME, NAMESPACE).info.remote(), timeout=30).pid
    except ray.exceptions.RayError:
        return 0
