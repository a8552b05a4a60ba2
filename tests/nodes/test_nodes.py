"""Where replicas and proxies run, and what becomes of them when machines come and go."""

import threading
from collections import Counter
from contextlib import contextmanager

import ray
from conftest import wait_until

import meshserve as serve
from meshserve.exceptions import ReplicaDiedError
from meshserve.schema import ProxyStatus

LIGHT = {"ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_wait_loop_s": 0.01}


@serve.deployment(**LIGHT)
class Where:
    def __call__(self):
        return ray.get_runtime_context().get_node_id()

    def rank(self):
        return serve.get_replica_context().rank.rank


def run(count, **options):
    return serve.run(Where.options(num_replicas=count, **options).bind(), name="app", route_prefix=None)


def deployment():
    (found,) = serve.status().applications["app"].deployments.values()
    return found


def all_ready(count):
    return deployment().replica_states == {"RUNNING": count} and deployment().status == "HEALTHY"


def places(handle):
    """How many replicas are on each node, as they say themselves."""
    answers = handle.broadcast("__call__").results(timeout_s=10, return_exceptions=True)
    return Counter(node for node in answers if isinstance(node, str))


def until_at(handle, wanted):
    """Waits until this program has heard that the replicas are where they are to be."""
    wait_until(lambda: places(handle) == wanted)


@contextmanager
def steady_calls(handle):
    """Calls one after the other all the while; what was raised is there afterwards."""
    stopped, raised = threading.Event(), []

    def call():
        while not stopped.is_set():
            try:
                handle.remote().result(timeout_s=30)
            except Exception as error:
                raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield raised
    finally:
        stopped.set()
        thread.join()


def test_replicas_are_spread_over_the_machines(machines):
    other = machines.add()
    handle = run(6)
    wait_until(lambda: set(places(handle)) == {machines.head, other})


def test_a_node_holds_no_more_replicas_of_a_deployment_than_it_may(machines):
    second = machines.add()
    app = Where.options(num_replicas=3, max_replicas_per_node=1).bind()
    target = serve.RunTarget(target=app, name="app", route_prefix=None)
    (handle,) = serve.run_many([target], wait_for_applications_running=False)
    wait_until(lambda: deployment().replica_states == {"RUNNING": 2, "STARTING": 1})
    third = machines.add()
    wait_until(lambda: all_ready(3))
    until_at(handle, {machines.head: 1, second: 1, third: 1})


def test_a_machine_that_dies_takes_only_what_it_had_accepted_and_its_replicas_come_back(machines):
    lost = machines.add()
    handle = run(4)
    replicas_there = wait_until(lambda: places(handle)[lost])
    with steady_calls(handle) as raised:
        machines.lose(lost)
        wait_until(lambda: lost not in places(handle) and all_ready(4))
    assert len(raised) <= replicas_there, "one caller loses at most a call for each replica that dies"
    assert all(isinstance(error, ReplicaDiedError) for error in raised)
    until_at(handle, {machines.head: 4})
    assert sorted(handle.broadcast("rank").results(timeout_s=10)) == [0, 1, 2, 3]


def test_replicas_leave_a_machine_that_is_to_go_away_and_no_call_is_lost(machines):
    leaving = machines.add()
    handle = run(4)
    wait_until(lambda: leaving in places(handle))
    with steady_calls(handle) as raised:
        machines.announce_end(leaving, in_s=120.0)
        wait_until(lambda: leaving not in places(handle) and all_ready(4))
    assert raised == []
    assert deployment().status == "HEALTHY"


def test_a_gang_waits_until_all_of_it_has_room_and_moves_with_its_machine(machines):
    options = {"num_replicas": 2, "ray_actor_options": {"num_cpus": 0, "resources": {"place": 1}}}
    gang = {"gang_size": 2, "gang_placement_strategy": "SPREAD"}
    app = Where.options(**options, gang_scheduling_config=gang).bind()
    first = machines.add(place=1)
    target = serve.RunTarget(target=app, name="app", route_prefix=None)
    (handle,) = serve.run_many([target], wait_for_applications_running=False)
    wait_until(lambda: "Each gang of 2 replicas needs more than is free in the cluster: place" in deployment().message)
    assert deployment().replica_states == {"STARTING": 2}
    second, third = machines.add(place=1), machines.add(place=1)
    wait_until(lambda: all_ready(2))
    lost = wait_until(lambda: places(handle).keys() - {first}).pop()
    fourth = machines.add(place=1)
    machines.lose(lost)
    wait_until(lambda: all_ready(2) and lost not in places(handle))
    assert places(handle).keys() <= {first, second, third, fourth}


def test_resources_and_labels_choose_the_machine_and_every_machine_with_replicas_has_a_proxy(machines):
    bare, other = machines.add(accelerator=1), machines.add(labels={"kind": "big"}, accelerator=1)
    needs = {"num_cpus": 0, "resources": {"accelerator": 1}, "label_selector": {"kind": "big"}}
    until_at(run(1, ray_actor_options=needs), {other: 1})
    wait_until(lambda: serve.status().proxies.get(other) == ProxyStatus.HEALTHY)
    assert bare not in serve.status().proxies
    assert serve.status().proxies[machines.head] == ProxyStatus.HEALTHY
    serve.delete("app")
    wait_until(lambda: serve.status().proxies[other] == ProxyStatus.DRAINING)
    machines.lose(other)
    wait_until(lambda: other not in serve.status().proxies)


def test_proxies_may_be_kept_to_the_head(machines):
    serve.shutdown()
    serve.start(proxy_location="HeadOnly", http_options={"port": 0}, grpc_options={"port": 0})
    other = machines.add()
    until_at(run(2, max_replicas_per_node=1), {machines.head: 1, other: 1})
    assert set(serve.status().proxies) == {machines.head}
    serve.shutdown()
