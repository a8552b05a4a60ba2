"""What a person sees when processes die: only what the dead had accepted is lost, and they come back."""

import asyncio
import os
import signal
import threading
from contextlib import contextmanager

import httpx
import ray
from mesh_conditions import controller_pid, wait_until

import meshserve as serve
from meshserve.exceptions import ReplicaDiedError
from meshserve.model.process_names import proxy_name
from meshserve.schema import ProxyStatus
from meshserve.settings import NAMESPACE

LIMIT = 4


@serve.deployment(num_replicas=2, max_ongoing_requests=LIMIT, ray_actor_options={"num_cpus": 0})
class Worker:
    async def __call__(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()


async def load(handle, calls, strike):
    """Makes so many calls, sixteen at a time, more than both replicas take, and strikes in the middle; the outcomes."""
    outcomes = []

    async def caller():
        while len(outcomes) < calls:
            try:
                outcomes.append(await handle.remote(0.01))
            except ReplicaDiedError as error:
                outcomes.append(error)
            if len(outcomes) == calls // 2:
                strike()

    await asyncio.gather(*(caller() for _ in range(16)))
    return outcomes


def test_killing_a_replica_under_load_loses_only_what_it_had_accepted_and_it_comes_back(run):
    app = run(Worker.bind())
    victims = {app.handle.remote(0.01).result() for _ in range(20)}
    assert len(victims) == 2
    killed = min(victims)
    outcomes = asyncio.run(load(app.handle, 400, lambda: os.kill(killed, signal.SIGKILL)))
    assert sum(isinstance(outcome, ReplicaDiedError) for outcome in outcomes) <= LIMIT

    def healed():
        (deployment,) = serve.status().applications[app.name].deployments.values()
        return deployment.status == "HEALTHY" and deployment.replica_states == {"RUNNING": 2}

    wait_until(healed)
    wait_until(lambda: len({app.handle.remote(0.0).result() for _ in range(20)} - {killed}) == 2)


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


def test_a_rolling_update_goes_on_when_the_controller_is_killed_in_its_middle_and_no_call_is_lost(run):
    app = run(Worker.options(num_replicas=3).bind())
    before = set(app.handle.broadcast("__call__", 0.0).results(timeout_s=10))
    target = serve.RunTarget(target=Worker.options(num_replicas=3).bind(), name=app.name, route_prefix=f"/{app.name}")

    def running():
        try:
            return set(app.handle.broadcast("__call__", 0.0).results(timeout_s=10))
        except ReplicaDiedError:  # it was asked while it ended
            return before

    with steady_calls(app.handle) as lost:
        serve.run_many([target], wait_for_applications_running=False)
        wait_until(lambda: running() - before)
        os.kill(controller_pid(), signal.SIGKILL)
        wait_until(lambda: serve.status().applications[app.name].status == "RUNNING")
        wait_until(lambda: len(running()) == 3 and not running() & before)
    assert lost == []


def test_a_killed_proxy_is_replaced_and_listens_where_it_did(run, mesh):
    app = run(Worker.bind())
    (node_id,) = serve.status().proxies
    proxy = ray.get_actor(proxy_name(node_id), NAMESPACE)
    os.kill(ray.get(proxy.info.remote(), timeout=30).pid, signal.SIGKILL)

    def answers():
        try:
            return httpx.get(f"{mesh.http}/-/routes", timeout=5).text
        except httpx.TransportError:
            return "nobody listens"

    wait_until(lambda: f"/{app.name}" in answers())
    wait_until(lambda: set(serve.status().proxies.values()) == {ProxyStatus.HEALTHY})


@contextmanager
def steady_calls(handle):
    """Calls one after the other all the while; what was raised is there afterwards."""
    stopped, raised = threading.Event(), []

    def call():
        while not stopped.is_set():
            try:
                handle.remote(0.0).result(timeout_s=30)
            except Exception as error:
                raised.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield raised
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
