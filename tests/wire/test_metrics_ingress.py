"""What real ingresses, routers, sessions and replicas count, as Prometheus sees it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import grpc.aio
import pytest
from conditions import until
from grpc_app import Shapes
from grpc_mesh import GrpcMesh
from http_mesh import eventually, serving
from prometheus_client.parser import text_string_to_metric_families
from replicas import LocalMesh, LocalReplica, call, on_io

from meshserve.model.call import CallKind
from meshserve.model.options import DeploymentOptions
from meshserve.routing.service import CallFailed
from meshserve.rpc.io_thread import LoopThread, io_thread
from meshserve.telemetry.exposition import process_text
from meshserve.telemetry.loop_lag import watch_loop
from meshserve.user.batching import batch
from meshserve.user.context import set_replica_context
from meshserve.user.multiplex import multiplexed


def value(name: str, text: str | None = None, **labels: str) -> float:
    """The sum of the series of this process that have these labels; 0 when there are none."""
    found = 0.0
    for family in text_string_to_metric_families(text or process_text().decode()):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                found += sample.value
    return found


class Grown:
    """How much series have grown since this was made. (Counters of a process are for all tests.)"""

    def __init__(self) -> None:
        self._before = process_text().decode()

    def __call__(self, name: str, **labels: str) -> float:
        return value(name, **labels) - value(name, self._before, **labels)


class Model:
    async def __call__(self, request: Any) -> str:
        if "fail" in request.url.path:
            raise KeyError("nope")
        return "hello"

    async def echo(self, given: Any) -> Any:
        return given

    async def fail(self) -> None:
        raise KeyError("nope")

    async def hold(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def count(self, n: int) -> Any:
        for index in range(n):
            yield "x" * 1000 if index else index

    @batch(max_batch_size=4, batch_wait_timeout_s=5)
    async def doubled(self, numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    async def double(self, number: int) -> int:
        return await self.doubled(number)

    @multiplexed(max_num_models_per_replica=1)
    async def model(self, model_id: str) -> str:
        if model_id == "bad":
            raise ValueError(model_id)
        return model_id

    async def load(self, model_id: str) -> str:
        return await self.model(model_id)


def test_http_requests_are_counted_by_route_and_status() -> None:
    grown = Grown()
    with serving(Model, name="counted", prefix="/shop") as served:
        for path in ("/shop/a", "/shop/b?x=1", "/shop/fail", "/elsewhere/made-up"):
            served.client.get(path)
        served.client.get("/-/healthz")
        assert value("meshserve_ingress_requests_in_flight", protocol="http") == 0
    requests = "meshserve_http_requests_total"
    assert grown(requests, application="counted", route="/shop", method="GET", status="200") == 2
    assert grown(requests, application="counted", route="/shop", status="500") == 1
    assert grown(requests, application="", route="", status="404") == 1
    assert grown("meshserve_http_request_duration_seconds_count", route="/shop") == 3
    assert grown(requests) == 4


def test_the_ingress_shows_metrics_that_prometheus_can_read() -> None:
    with serving(Model) as served:
        answer = served.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert value("process_resident_memory_bytes", answer.text) > 0
    assert "meshserve_http_requests_total" in answer.text


def test_grpc_calls_are_counted_under_the_ecosystems_names() -> None:
    grown = Grown()
    service = "meshserve.tests.v1.ShapesService"

    @on_io
    async def check() -> None:
        async with GrpcMesh({"app": Shapes}) as mesh:
            await mesh.shapes.Unary(mesh.note(1))
            assert len([note async for note in mesh.shapes.Down(mesh.note(3))]) == 3
            with pytest.raises(grpc.aio.AioRpcError):
                await mesh.shapes.Unary(mesh.note(1), metadata=(("application", "none"),))
            with pytest.raises(grpc.aio.AioRpcError):
                await mesh.channel.unary_unary("/made.up/Method")(b"")
            await until(lambda: grown("grpc_server_handled_total", grpc_service=service) == 3)

    check()
    labels = {"grpc_service": service, "grpc_method": "Unary", "grpc_type": "unary"}
    assert grown("grpc_server_started_total", **labels) == 2
    assert grown("grpc_server_handled_total", **labels, grpc_code="OK") == 1
    assert grown("grpc_server_handled_total", **labels, grpc_code="NotFound") == 1
    assert grown("grpc_server_handled_total", grpc_method="Down", grpc_type="server_stream", grpc_code="OK") == 1
    assert grown("grpc_server_handling_seconds_count", **labels) == 2
    assert "made.up" not in process_text().decode()


def test_a_grpc_client_that_goes_away_or_runs_out_of_time_is_counted_so() -> None:
    grown = Grown()

    class Slow:
        async def Unary(self, request: Any) -> Any:
            await asyncio.sleep(60)

    @on_io
    async def check() -> None:
        async with GrpcMesh({"app": Slow}) as mesh:
            with pytest.raises(grpc.aio.AioRpcError):
                await mesh.shapes.Unary(mesh.note(1), timeout=0.1)
            await until(lambda: grown("grpc_server_handled_total", grpc_code="DeadlineExceeded") == 1)
            await until(lambda: not mesh.ongoing("app"))
            going = mesh.shapes.Unary(mesh.note(1))
            await until(lambda: mesh.ongoing("app"))
            going.cancel()
            await until(lambda: grown("grpc_server_handled_total", grpc_code="Canceled") == 1)

    check()


def test_router_session_and_replica_count_the_same_calls() -> None:
    grown = Grown()

    @on_io
    async def check() -> None:
        async with LocalMesh(LocalReplica("a", Model)) as mesh:
            for reply in [mesh.router.unary(call("echo", "x" * 100)) for _ in range(50)]:
                await reply
            with pytest.raises(CallFailed):
                await mesh.router.unary(call("fail"))

    check()
    to = {"application": "app", "deployment": "Model"}
    assert grown("meshserve_router_calls_total", **to) == 51
    assert grown("meshserve_router_failures_total", **to, kind="user") == 1
    assert grown("meshserve_replica_calls_total", **to, method="echo", outcome="ok") == 50
    assert grown("meshserve_replica_calls_total", **to, method="fail", outcome="user") == 1
    assert grown("meshserve_replica_call_duration_seconds_count", **to) == 51
    assert grown("meshserve_sessions_opened_total", **to) == 1
    for side in ("caller", "replica"):
        assert grown("meshserve_session_message_frames_sum", side=side) == 51
        assert 0 < grown("meshserve_session_message_frames_count", side=side) <= 51
        assert grown("meshserve_session_sent_bytes_total", side=side) >= 5000


def test_waiting_and_refusing_are_counted() -> None:
    grown = Grown()
    options = DeploymentOptions(max_ongoing_requests=1, max_queued_requests=1)

    @on_io
    async def check() -> None:
        async with LocalMesh(LocalReplica("a", Model, options=options)) as mesh:
            first = mesh.router.unary(call("hold", 0.1))
            second = mesh.router.unary(call("hold", 0))
            assert value("meshserve_router_queued_calls") == 1
            third = mesh.router.unary(call("hold", 0))
            await first
            await second
            with pytest.raises(CallFailed):
                await third

    check()
    assert grown("meshserve_router_failures_total", kind="backpressure") == 1
    assert grown("meshserve_router_calls_total") == 3
    assert grown("meshserve_router_wait_seconds_count") == 2
    assert grown("meshserve_router_wait_seconds_sum") > 0.05
    assert value("meshserve_router_queued_calls") == 0


def test_calls_that_a_full_replica_sends_back_are_counted_at_both_ends() -> None:
    grown = Grown()
    options = DeploymentOptions(max_ongoing_requests=1)

    @on_io
    async def check() -> None:
        async with LocalMesh(LocalReplica("a", Model, options=options)) as mesh:
            other = LocalMesh(*mesh.replicas, seed=1)
            other.publish()
            held = mesh.router.unary(call("hold", 0.1))
            await until(lambda: mesh.replicas[0].admission.ongoing)
            await other.router.unary(call("hold", 0))
            await held
            await other.router.close()

    check()
    assert grown("meshserve_replica_refused_calls_total", reason="full") >= 1
    assert grown("meshserve_router_rejections_total") >= 1


def test_a_stream_that_waits_for_its_consumer_shows() -> None:
    @on_io
    async def check() -> None:
        async with LocalMesh(LocalReplica("a", Model)) as mesh:
            stream = mesh.router.stream(call("count", 5000, kind=CallKind.SERVER_STREAM))
            await until(lambda: value("meshserve_session_waiting_streams") == 1)
            while await stream.take():
                pass
            await until(lambda: value("meshserve_session_waiting_streams") == 0)

    check()


def test_batches_are_counted_by_function() -> None:
    grown = Grown()

    @on_io
    async def check() -> None:
        async with LocalMesh(LocalReplica("a", Model)) as mesh:
            for reply in [mesh.router.unary(call("double", n)) for n in range(8)]:
                await reply

    check()
    assert grown("meshserve_batch_size_count", function="Model.doubled") == 2
    assert grown("meshserve_batch_size_sum", function="Model.doubled") == 8
    assert grown("meshserve_batch_duration_seconds_count", function="Model.doubled") == 2
    assert value("meshserve_batch_queued_calls", function="Model.doubled") == 0


def test_models_are_counted_by_hit_and_miss() -> None:
    grown = Grown()

    @on_io
    async def check() -> None:
        async with LocalMesh(LocalReplica("a", Model)) as mesh:
            for model_id in ("a", "a", "b"):
                await mesh.router.unary(call("load", model_id))
            with pytest.raises(CallFailed):
                await mesh.router.unary(call("load", "bad"))

    check()
    set_replica_context(None)
    assert grown("meshserve_model_requests_total", result="miss") == 3
    assert grown("meshserve_model_requests_total", result="hit") == 1
    assert grown("meshserve_model_load_seconds_count") == 2
    assert grown("meshserve_model_load_failures_total") == 1


def test_a_blocked_loop_shows_as_lag() -> None:
    grown = Grown()
    thread = LoopThread("test-lag").start()
    watch_loop("test", thread.loop)
    thread.call_soon(lambda: asyncio.run_coroutine_threadsafe(asyncio.sleep(0), thread.loop))
    io_thread().run(until(lambda: grown("meshserve_event_loop_lag_seconds_count", loop="test") >= 1))
    blocked = [False]

    def block() -> None:
        import time

        time.sleep(0.7)  # what user code must not do
        blocked[0] = True

    thread.call_soon(block)
    io_thread().run(until(lambda: blocked[0] and grown("meshserve_event_loop_lag_seconds_sum", loop="test") > 0.1))
    thread.stop()


class Silent:
    async def __call__(self, request: Any) -> None:
        await request.body()
        await asyncio.Event().wait()


@pytest.mark.parametrize("as_task", [False, True], ids=["in callbacks", "as a task"])
def test_request_whose_client_left_before_there_was_a_status_is_a_499(as_task: bool) -> None:
    with serving(Silent) as served:
        grown, body = Grown(), b"four"
        with socket.create_connection(("127.0.0.1", served.client.base_url.port)) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n" + body[: 2 if as_task else 4])
            if as_task:
                eventually(lambda: served.mesh.in_flight.count == 1)
                connection.sendall(body[2:])
            eventually(lambda: served.mesh.meshes["app"].replicas[0].admission.ongoing == 1)
        eventually(lambda: grown("meshserve_http_requests_total", status="499") == 1)
        assert grown("meshserve_http_requests_total") == 1
