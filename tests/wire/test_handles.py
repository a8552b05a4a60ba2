"""Handles against real replicas over loopback: every way to call, to wait, to chain, to cancel."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
import time

import cloudpickle
import pytest
from ray.exceptions import ActorDiedError, TaskCancelledError
from replicas import DEPLOYMENT, LocalMesh, LocalReplica

from meshserve.errors import (
    BackPressureError,
    DeploymentUnavailableError,
    InvalidCallError,
    MeshServeException,
    RemoteError,
    RemoteTraceback,
    ReplicaDiedError,
    RequestCancelledError,
    UpstreamDiedError,
)
from meshserve.model.options import DeploymentOptions
from meshserve.routing.directory import process_directory, set_process_directory
from meshserve.routing.handle import DeploymentHandle
from meshserve.routing.layers import CALLER_STACK
from meshserve.routing.router import Router
from meshserve.routing.scope import request_scope
from meshserve.routing.service import Service, stack
from meshserve.rpc.io_thread import io_thread
from meshserve.telemetry.catalogue import SESSION_SENT
from meshserve.user.context import get_request_context


class OneDeployment:
    """A directory that knows one deployment."""

    def __init__(self, mesh: LocalMesh) -> None:
        self.mesh = mesh

    def service(self, deployment: object) -> Service:
        assert deployment == DEPLOYMENT
        return stack(CALLER_STACK, self.router(deployment))

    def router(self, deployment: object) -> Router:
        return self.mesh.router


class Misfit(Exception):
    """Its own pickle cannot be read: the class does not take what `Exception` was given."""

    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


class Textless(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Model:
    def __init__(self):
        self.calls = []
        self.hanging = 0
        self.cancelled = 0
        self.inner = DeploymentHandle("Model", "app")

    async def __call__(self, value="called"):
        return value

    async def add(self, a, b=0):
        self.calls.append((a, b))
        return a + b

    def sync_add(self, a, b=0):
        return a + b

    async def fail(self, *args):
        self.calls.append("fail")
        raise ValueError("bad", 7)

    async def misfit_error(self):
        raise Misfit(code=7)

    async def unpicklable_error(self):
        class Odd(Exception):
            def __init__(self):
                super().__init__("odd")
                self.lock = threading.Lock()

        raise Odd

    def leave(self):
        raise SystemExit(3)

    async def async_leave(self):
        raise SystemExit(3)

    async def unpicklable_result(self):
        return threading.Lock()

    async def hang(self):
        self.hanging += 1
        try:
            await asyncio.sleep(60)
        finally:
            self.cancelled += 1

    async def count(self, n):
        for i in range(n):
            yield i

    async def fail_after(self, n):
        for i in range(n):
            yield i
        raise ValueError("after")

    def sync_count(self, n):
        yield from range(n)

    async def total(self, items):
        return sum([item async for item in items])

    async def add_size(self, number, data):
        return number + len(data)

    def sync_add_size(self, number, data):
        return number + len(data)

    async def fail_with(self, argument):
        raise ValueError(argument)

    async def fail_textless(self):
        raise Textless

    async def nested_hang(self, depth):
        if depth:
            return await self.inner.nested_hang.remote(depth - 1)
        return await self.hang()

    async def hang_with_queued_children(self):
        self.children = [self.inner.hang.remote(), self.inner.add.remote(1), self.inner.add.remote(2)]
        await asyncio.gather(*self.children)

    async def left_s(self, depth):
        own = [request_scope.get().deadline - time.monotonic()]
        return own + (await self.inner.left_s.remote(depth - 1) if depth else [])

    async def seen(self):
        context = get_request_context()
        return context.request_id, context.multiplexed_model_id

    async def nested_seen(self):
        return await self.seen(), await self.inner.seen.remote()

    def sync_nested(self, a):
        return self.inner.add.remote(a, 1).result()

    async def state(self):
        return self.calls, self.cancelled


@pytest.fixture
def replica():
    return LocalReplica("a", Model)


@pytest.fixture
def served(replica):
    with_mesh = LocalMesh(replica)
    io_thread().run(with_mesh.__aenter__())
    set_process_directory(OneDeployment(with_mesh))
    yield DeploymentHandle("Model", "app")
    set_process_directory(None)
    io_thread().run(with_mesh.__aexit__(None, None, None))


def test_result_in_synchronous_code(served):
    assert served.remote().result() == "called"
    assert served.add.remote(1, b=2).result() == 3
    assert served.sync_add.remote(1, b=2).result() == 3
    assert served.options(method_name="add").remote(5).result() == 5


async def test_await_in_a_running_loop_and_twice(served):
    response = served.add.remote(1, 2)
    assert await response == 3
    assert await response == 3
    with pytest.raises(RuntimeError, match="await response"):
        response.result()


async def test_many_calls_at_once(served):
    assert await asyncio.gather(*(served.add.remote(i, 1) for i in range(300))) == list(range(1, 301))


def test_many_threads_share_a_handle(served):
    sums = []

    def work(k):
        sums.append(sum(served.add.remote(i, k).result() for i in range(20)))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(sums) == sorted(190 + 20 * k for k in range(8))


async def test_exception_keeps_class_arguments_and_remote_traceback(served):
    with pytest.raises(ValueError) as caught:
        await served.fail.remote()
    assert caught.value.args == ("bad", 7)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in fail" in str(caught.value.__cause__)


async def test_exception_whose_class_does_not_take_its_arguments_keeps_class_and_fields(served):
    with pytest.raises(Misfit, match="code 7") as caught:
        await served.misfit_error.remote()
    assert caught.value.code == 7
    assert "in misfit_error" in str(caught.value.__cause__)


async def test_exceptions_whose_text_no_message_can_carry_arrive_all_the_same(served):
    with pytest.raises(ValueError) as caught:
        await served.fail_with.remote("file \udc80")
    assert caught.value.args == ("file \udc80",) and "file \\udc80" in str(caught.value.__cause__)
    with pytest.raises(Textless):
        await served.fail_textless.remote()


async def test_exceptions_keep_large_arguments_and_show_the_ends_of_their_text(served):
    large = "a" * 1_000_000 + "z"
    with pytest.raises(ValueError) as caught:
        await served.fail_with.remote(large)
    shown = str(caught.value.__cause__)
    assert caught.value.args == (large,) and len(shown) < 100_000
    assert "in fail_with" in shown and "characters left out" in shown and shown.rstrip().endswith("z")


async def test_what_cannot_be_pickled_is_a_readable_error(served):
    with pytest.raises(RemoteError, match="Odd: odd"):
        await served.unpicklable_error.remote()
    with pytest.raises(TypeError, match="cannot send lock"):
        await served.unpicklable_result.remote()
    response = served.add.remote(threading.Lock())  # nothing is raised here
    with pytest.raises(TypeError, match="cannot send lock"):
        await response


@pytest.mark.parametrize("how", ["result", "await"])
def test_what_would_end_a_program_there_is_an_error_here(served, how):
    async def wait():
        return await served.leave.remote()

    with pytest.raises(RemoteError, match="SystemExit: 3"):
        served.leave.remote().result() if how == "result" else asyncio.run(wait())


@pytest.mark.parametrize("method", ["leave", "async_leave"])
def test_user_code_that_exits_ends_its_replica(served, replica, method):
    with pytest.raises(RemoteError):
        served.options(method_name=method).remote().result()
    assert [one.code for one in replica.left] == [3]


async def test_unknown_method_and_unknown_option(served):
    with pytest.raises(InvalidCallError, match=r"no method 'nope'\. Available methods: .*'add', .*'count'") as caught:
        await served.nope.remote()
    assert "__init__" not in str(caught.value)
    with pytest.raises(TypeError, match="unexpected keyword argument 'methd_name'"):
        served.options(methd_name="x")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"timeout_s": "5"}, TypeError, "must be a number of seconds, or None, not '5'"),
        ({"method_name": None}, TypeError, "must be the name of a method, not None"),
        ({"session_id": "\udc80"}, ValueError, "must be text that UTF-8 can express"),
        ({"request_serialization": "yaml"}, ValueError, "must be one of cloudpickle, pickle,"),
    ],
)
def test_options_that_make_no_sense_are_refused_where_they_are_given(served, options, error, text):
    with pytest.raises(error, match=text):
        served.options(**options)


def test_options_can_be_read_and_those_about_transports_change_nothing(served):
    same = served.options(request_serialization="MsgPack", _by_reference=False, _prefer_local_routing=True)
    assert same.handle_options == served.handle_options
    assert served.add.options(stream=True, timeout_s=3).handle_options.method_name == "add"


async def test_stream_from_async_and_sync_generators(served):
    stream = served.options(stream=True)
    assert [i async for i in stream.count.remote(3000)] == list(range(3000))
    assert [i async for i in stream.sync_count.remote(3000)] == list(range(3000))


def test_stream_in_synchronous_code(served):
    assert list(served.options(method_name="count", stream=True).remote(10)) == list(range(10))


async def test_error_after_items_arrives_after_the_items(served):
    got = []
    with pytest.raises(ValueError, match="after"):
        async for item in served.options(stream=True).fail_after.remote(5):
            got.append(item)  # noqa: PERF401 - it must keep what came before the error
    assert got == [0, 1, 2, 3, 4]


async def test_stream_flag_mismatch_is_a_type_error_on_use(served):
    with pytest.raises(TypeError, match=r"'count' returned a generator. You must use `handle.options\(stream=True\)`"):
        await served.count.remote(3)
    with pytest.raises(TypeError, match="did not return a generator"):
        await anext(served.options(stream=True).add.remote(1))
    with pytest.raises(TypeError, match="no single result"):
        await served.options(stream=True).count.remote(3)
    with pytest.raises(TypeError, match="no single result"):
        served.options(stream=True).count.remote(3).result()
    with pytest.raises(RuntimeError, match=r"`asyncio` event loop\. Use `async for`"):
        iter(served.options(stream=True).count.remote(3))
    with pytest.raises(RuntimeError, match=r"`asyncio` event loop\. Use `await anext"):
        next(served.options(stream=True).count.remote(3))


async def test_response_as_argument_arrives_as_its_value_and_upstream_runs_once(served):
    first = served.add.remote(1, 2)
    second = served.add.remote(first, b=first)
    third = served.add.remote(second, b=served.sync_add.remote(10))
    assert await third == 16
    assert await first == 3
    calls, _ = await served.state.remote()
    assert calls.count((1, 2)) == 1


async def test_large_arguments_beside_a_response_do_not_ride_the_session(served):
    assert await served.add.remote(1, 2) == 3
    metrics, large = process_directory().router(DEPLOYMENT).replicas[0].session.metrics, bytes(2_000_000)
    before = sum(value for metric, _, value in metrics.read() if metric is SESSION_SENT)
    assert await served.add_size.remote(served.add.remote(1, 2), large) == 2_000_003
    assert await served.sync_add_size.remote(served.add.remote(1, 2), data=large) == 2_000_003
    assert sum(value for metric, _, value in metrics.read() if metric is SESSION_SENT) - before < 10_000


async def test_upstream_failure_is_the_downstream_failure_and_downstream_never_runs(served):
    response = served.add.remote(served.fail.remote(), 1)
    with pytest.raises(ValueError, match="bad"):
        await response
    assert (await served.state.remote())[0] == ["fail"]


async def test_a_replica_that_dies_upstream_is_told_from_one_that_dies_downstream(served):
    replica = process_directory().mesh.replicas[0]
    upstream = served.hang.remote()
    downstream = served.add.remote(upstream, 1)
    while not replica.user.callable.hanging:
        await asyncio.sleep(0.005)
    io_thread().run(replica.stop())
    with pytest.raises(ReplicaDiedError, match=r"replica of app#Model at .* died") as died:
        await upstream
    assert isinstance(died.value, ActorDiedError)  # what code written for Ray's actors catches
    assert str(pickle.loads(pickle.dumps(died.value))) == str(died.value)
    with pytest.raises(UpstreamDiedError, match=r"^app#Model was not called: .* replica of app#Model at") as caught:
        await downstream
    assert isinstance(caught.value.__cause__, ReplicaDiedError)


async def test_response_generator_as_argument_is_refused(served):
    with pytest.raises(RuntimeError, match="cannot be passed to downstream"):
        await served.add.remote(served.options(stream=True).count.remote(2))


async def test_generators_as_first_argument_stream_to_the_callee(served):
    async def numbers():
        for i in range(100):
            yield i

    assert await served.total.remote(numbers()) == sum(range(100))
    assert await served.total.remote(i for i in range(100)) == sum(range(100))


async def test_cancel_reaches_user_code(served):
    response = served.hang.remote()
    while not process_directory().mesh.replicas[0].user.callable.hanging:
        await asyncio.sleep(0.005)
    response.cancel()
    assert response.cancelled()
    with pytest.raises(RequestCancelledError) as caught:
        await response
    assert isinstance(caught.value, TaskCancelledError)  # what code written for Ray's actors catches
    while (await served.state.remote())[1] != 1:
        await asyncio.sleep(0.005)


async def test_outer_task_cancel_stays_a_cancelled_error(served):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await served.hang.remote()


async def test_cancel_reaches_children_of_children(served):
    response = served.nested_hang.remote(3)
    while not process_directory().mesh.replicas[0].user.callable.hanging:
        await asyncio.sleep(0.005)
    response.cancel()
    with pytest.raises(RequestCancelledError):
        await response
    while process_directory().mesh.replicas[0].admission.ongoing:
        await asyncio.sleep(0.005)
    assert (await served.state.remote())[1] == 1


async def test_cancel_reaches_children_that_still_wait_for_a_replica(served):
    mesh = process_directory().mesh
    replica = mesh.replicas[0]
    replica.options = DeploymentOptions(max_ongoing_requests=2)
    replica.admission.limit = 2
    io_thread().run(_publish(mesh))
    response = served.hang_with_queued_children.remote()
    while not (replica.user.callable.hanging and mesh.router.queued == 2):
        await asyncio.sleep(0.005)
    response.cancel()
    with pytest.raises(RequestCancelledError):
        await response
    while mesh.router.queued or replica.admission.ongoing:
        await asyncio.sleep(0.005)
    assert await served.state.remote() == ([], 1)  # none of those that waited has run


async def test_deadline_ends_the_call_and_reaches_user_code(served):
    since = time.monotonic()
    with pytest.raises(TimeoutError):
        await served.options(timeout_s=0.1).hang.remote()
    assert time.monotonic() - since < 5
    while (await served.state.remote())[1] != 1:
        await asyncio.sleep(0.005)


async def test_deadline_shrinks_for_children(served):
    left_s = await served.options(timeout_s=60).left_s.remote(3)
    assert 60 > left_s[0] > left_s[1] > left_s[2] > left_s[3] > 30
    with pytest.raises(TimeoutError):
        await served.options(timeout_s=0.2).nested_hang.remote(2)
    while process_directory().mesh.replicas[0].admission.ongoing:
        await asyncio.sleep(0.005)


def test_result_timeout_leaves_the_call_running(served):
    response = served.hang.remote()
    with pytest.raises(TimeoutError):
        response.result(timeout_s=0.05)
    assert (served.state.remote().result())[1] == 0
    response.cancel()
    with pytest.raises(RequestCancelledError):
        response.result(timeout_s=5)


async def test_children_inherit_the_request_id_but_not_the_model(served):
    own, child = await served.options(multiplexed_model_id="m1").nested_seen.remote()
    assert own[0] == child[0] and own[1] == "m1" and child[1] == ""


async def test_blocking_for_a_result_in_a_synchronous_method_is_fine(served):
    assert await served.sync_nested.remote(4) == 5


async def test_abandoned_stream_frees_its_slot(served):
    stream = served.options(stream=True).count.remote(10**9)
    assert await anext(stream) == 0
    del stream
    gc.collect()
    while process_directory().mesh.replicas[0].admission.ongoing:
        await asyncio.sleep(0.005)


async def test_a_handle_survives_pickling_and_probing(served):
    copies = [pickle.loads(pickle.dumps(served)), cloudpickle.loads(cloudpickle.dumps(served)), copy.deepcopy(served)]
    for other in copies:
        assert await other.add.remote(1) == 1
        assert other.handle_id != served.handle_id
        assert other == served and hash(other) == hash(served)
    assert served.add == served.options(stream=True).add.options(stream=False) != served
    assert served.options(session_id="s") != served != "served"
    assert served.options(session_id="s")._router is served._router
    assert not hasattr(served, "__array__")
    assert await served.__call__.remote("x") == "x"
    with pytest.raises(MeshServeException, match="not serializable"):
        pickle.dumps(served.remote())


def test_a_handle_is_initialized_once_and_before_it_is_used(served):
    assert not served.is_initialized
    served._init(_prefer_local_routing=True)
    assert served.is_initialized and served.add.remote(1).result() == 1
    for used in (served, DeploymentHandle("Model", "app").options(stream=True)):
        with pytest.raises(RuntimeError, match="was initialized already"):
            used._init()


def test_a_handle_knows_whether_there_are_replicas(served):
    assert not served.running_replicas_populated()
    assert served.add.remote(1).result() == 1
    assert served.running_replicas_populated()


async def test_nothing_serves_a_deleted_deployment(served):
    mesh = process_directory().mesh
    io_thread().run(_publish(mesh, replicas=(), exists=False))
    with pytest.raises(DeploymentUnavailableError, match="no such deployment"):
        await served.remote()


async def test_backpressure_is_an_error_on_the_response(served):
    mesh = process_directory().mesh
    mesh.replicas[0].options = DeploymentOptions(max_ongoing_requests=1, max_queued_requests=1)
    mesh.replicas[0].admission.limit = 1
    io_thread().run(_publish(mesh))
    responses = [served.hang.remote() for _ in range(3)]
    with pytest.raises(BackPressureError) as caught:
        await responses[2]
    assert caught.value.max_queued_requests == 1
    for response in responses[:2]:
        response.cancel()


async def _publish(mesh, **fields):
    mesh.publish(**fields)
