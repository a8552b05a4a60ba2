"""Traces across real ingresses, sessions and replicas, into an exporter in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import span_sink
from grpc_app import Shapes
from grpc_mesh import GrpcMesh
from http_mesh import HttpMesh, serving
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from replicas import LocalMesh, LocalReplica, call, on_io

import meshserve as serve
from meshserve.model.ids import DeploymentId
from meshserve.model.options import DeploymentOptions
from meshserve.replica.control import ReplicaControl
from meshserve.routing.directory import set_process_directory
from meshserve.routing.handle import DeploymentHandle
from meshserve.routing.layers import caller_stack
from meshserve.routing.service import Service, stack
from meshserve.rpc.io_thread import io_thread
from meshserve.settings import Settings
from meshserve.telemetry.log_options import Identity
from meshserve.telemetry.tracing import active, start_tracing, stop_tracing
from meshserve.telemetry.tracing_options import TracingOptions
from meshserve.user.batching import batch
from meshserve.v1 import replica_control_pb2

WHO = Identity.of_replica("app", "Model", "r1")
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def tracing() -> Iterator[None]:
    start_tracing(TracingOptions(True, "span_sink:processors", 1.0), WHO)
    yield
    stop_tracing()


async def spans(*names: str) -> list[ReadableSpan]:
    """The spans of these names, once all have ended."""
    async with asyncio.timeout(10):
        while len(found := {span.name: span for span in span_sink.finished()}.keys() & set(names)) < len(set(names)):
            assert isinstance(found, set)
            await asyncio.sleep(0.005)
    by_name = {span.name: span for span in span_sink.finished()}
    return [by_name[name] for name in names]


def parent_of(span: ReadableSpan) -> int:
    return span.parent.span_id if span.parent is not None else 0


def id_of(span: ReadableSpan) -> int:
    return span.get_span_context().span_id


class Directory:
    """Deployments by name, each with one replica; a directory that handles use."""

    def __init__(self) -> None:
        self.meshes: dict[str, LocalMesh] = {}
        self.services: dict[str, Service] = {}

    async def add(self, name: str, target: Any, *args: Any, options: DeploymentOptions | None = None) -> None:
        mesh = self.meshes[name] = LocalMesh(LocalReplica(name, target, *args, options=options))
        await mesh.__aenter__()
        mesh.replicas[0].door.deployment = DeploymentId("app", name)
        self.services[name] = stack(caller_stack(), mesh.router)

    def service(self, deployment: DeploymentId) -> Service:
        return self.services[deployment.name]

    async def close(self) -> None:
        for mesh in self.meshes.values():
            await mesh.__aexit__(None, None, None)


class Front:
    def __init__(self) -> None:
        self.middle = DeploymentHandle("Middle", "app")

    async def __call__(self, request: Any) -> str:
        return await self.middle.double.remote("x")


class Middle:
    def __init__(self) -> None:
        self.back = DeploymentHandle("Back", "app")

    async def double(self, text: str) -> str:
        tracing = active()
        assert tracing is not None
        # A context that is given, as one must be where a span is begun in a thread of one's own.
        with tracing.provider.get_tracer("user").start_as_current_span("the user's own", serve.get_trace_context()):
            return await self.back.twice.remote(text)


class Back:
    def twice(self, text: str) -> str:
        return text * 2


class Batched:
    @batch(max_batch_size=2, batch_wait_timeout_s=5)
    async def lengths(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    async def length(self, text: str) -> int:
        return await self.lengths(text)

    async def fail(self) -> None:
        raise KeyError("nope")

    async def hold(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture
def three(tracing: None) -> Iterator[HttpMesh]:
    """An ingress in front of Front, which calls Middle, which calls Back."""
    directory, mesh = Directory(), HttpMesh()
    set_process_directory(directory)  # type: ignore[arg-type]  # all of it that handles use
    mesh.start()
    try:
        for name, target in (("Middle", Middle), ("Back", Back)):
            io_thread().run(directory.add(name, target), timeout_s=30)
        front = mesh.deploy(Front, prefix="/shop")
        front.replicas[0].door.deployment = DeploymentId("app", "Front")
        mesh.services.services[DeploymentId("app", "Model")] = stack(caller_stack(), front.router)
        mesh.publish()
        yield mesh
    finally:
        set_process_directory(None)
        mesh.stop()
        io_thread().run(directory.close(), timeout_s=30)


def test_one_request_through_three_deployments_is_one_trace(three: HttpMesh) -> None:
    with three.client() as client:
        answer = client.get("/shop/x", headers={"traceparent": TRACEPARENT, "x-request-id": "r-1"})
    assert answer.text == "xx"
    chain = [
        "GET /shop",
        "call Model.__call__",
        "Front.__call__",
        "call Middle.double",
        "Middle.double",
        "the user's own",
        "call Back.twice",
        "Back.twice",
    ]
    found = io_thread().run(spans(*chain))
    assert {f"{span.get_span_context().trace_id:032x}" for span in found} == {TRACE}
    assert parent_of(found[0]) == 0xB7AD6B7169203331
    assert [parent_of(span) for span in found[1:]] == [id_of(span) for span in found[:-1]]


def test_spans_say_what_they_are_about(three: HttpMesh) -> None:
    with three.client() as client:
        client.post("/shop/x", headers={"x-request-id": "r-2"})
    ingress, code = io_thread().run(spans("POST /shop", "Back.twice"))
    assert ingress.kind is trace.SpanKind.SERVER and ingress.parent is None
    assert ingress.attributes["http.response.status_code"] == 200 and ingress.attributes["http.route"] == "/shop"
    assert code.attributes["meshserve.deployment"] == "Back" and code.attributes["request_id"] == "r-2"
    assert ingress.resource.attributes["service.name"] == "meshserve-replica"


def test_a_grpc_call_is_a_span_with_its_code(tracing: None) -> None:
    @on_io
    async def check() -> None:
        async with GrpcMesh({"app": Shapes}) as mesh:
            await mesh.shapes.Unary(mesh.note(1), metadata=(("traceparent", TRACEPARENT),))
            (span,) = await spans("meshserve.tests.v1.ShapesService/Unary")
            assert f"{span.get_span_context().trace_id:032x}" == TRACE
            assert span.attributes["rpc.grpc.status_code"] == "OK"
            (code,) = await spans("Model.Unary")
            assert code.get_span_context().trace_id == span.get_span_context().trace_id

    check()


def test_a_wait_for_a_replica_is_a_span_of_its_own(tracing: None) -> None:
    @on_io
    async def check() -> None:
        directory = Directory()
        await directory.add("Model", Batched, options=DeploymentOptions(max_ongoing_requests=1))
        service = directory.services["Model"]
        replies = [service.unary(call("hold", 0.05)) for _ in range(2)]
        for reply in replies:
            await reply
        wait, outer = await spans("wait for a replica", "call Model.hold")
        assert parent_of(wait) in {id_of(span) for span in span_sink.finished() if span.name == outer.name}
        assert wait.end_time - wait.start_time >= 0.02e9
        await directory.close()

    check()


def test_a_batch_is_a_child_of_its_first_request_and_linked_to_the_others(tracing: None) -> None:
    @on_io
    async def check() -> None:
        directory = Directory()
        await directory.add("Model", Batched)
        service = directory.services["Model"]
        replies = [service.unary(call("length", text)) for text in ("a", "bb")]
        for reply in replies:
            await reply
        await spans("batch Batched.lengths", "Model.length")
        batches = [span for span in span_sink.finished() if span.name.startswith("batch")]
        requests = {id_of(span) for span in span_sink.finished() if span.name == "Model.length"}
        assert len(batches) == 1 and len(requests) == 2
        assert {parent_of(batches[0]), *(link.context.span_id for link in batches[0].links)} == requests
        await directory.close()

    check()


def test_what_an_exporter_still_keeps_is_sent_before_a_replica_ends() -> None:
    @on_io
    async def check() -> None:
        directory = Directory()
        await directory.add("Model", Batched)
        await directory.services["Model"].unary(call("length", "a"))
        control = ReplicaControl(directory.meshes["Model"].replicas[0].door, lambda user: None)
        await control.Drain(replica_control_pb2.DrainRequest(timeout_s=5.0), None)
        assert "Model.length" in {span.name for span in span_sink.finished()}
        await directory.close()

    start_tracing(TracingOptions(True, "span_sink:lingering", 1.0), WHO)
    try:
        check()
    finally:
        stop_tracing()


def test_what_user_code_raises_is_on_the_spans(tracing: None) -> None:
    @on_io
    async def check() -> None:
        directory = Directory()
        await directory.add("Model", Batched)
        reply = directory.services["Model"].unary(call("fail"))
        with pytest.raises(Exception, match="nope"):
            await reply
        code, caller = await spans("Model.fail", "call Model.fail")
        for span in (code, caller):
            assert span.status.status_code is trace.StatusCode.ERROR
            assert span.events[0].attributes["exception.type"] == "KeyError"
            assert "raise KeyError" in span.events[0].attributes["exception.stacktrace"]
        await directory.close()

    check()


def test_a_trace_that_was_not_sampled_stays_so() -> None:
    start_tracing(TracingOptions(True, "span_sink:processors", 1.0), WHO)
    try:
        with serving(Back_) as served:
            served.client.get("/", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-00"})
            served.client.get("/", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
        assert len([span for span in span_sink.finished() if span.name == "GET /"]) == 1
    finally:
        stop_tracing()


def test_without_tracing_a_clients_trace_still_passes_through() -> None:
    assert active() is None and serve.get_trace_context() is None
    with serving(Back_) as served:
        assert served.client.get("/", headers={"traceparent": TRACEPARENT}).text == TRACEPARENT


class Back_:  # noqa: N801 - beside Back, which has no door for HTTP
    async def __call__(self, request: Any) -> str:
        return str(request.headers.get("traceparent"))


# -- options ---------------------------------------------------------------------------------------------------------


def test_the_environment_turns_tracing_on_by_naming_an_exporter() -> None:
    environ = {"RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH": "a:b", "RAY_SERVE_TRACING_SAMPLING_RATIO": "0.5"}
    assert TracingOptions.from_settings(Settings.from_environment(environ)) == TracingOptions(True, "a:b", 0.5)
    assert not TracingOptions.from_settings(Settings.from_environment({})).enabled


def test_a_tracing_config_goes_before_the_environment() -> None:
    default = TracingOptions(True, "a:b", 0.5)
    assert TracingOptions.from_json("", default) is default
    assert TracingOptions.from_json('{"enabled": false}', default) == TracingOptions(False, "a:b", 0.5)
    assert TracingOptions.from_json('{"exporter_import_path": "c:d"}', TracingOptions()) == TracingOptions(True, "c:d")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [('{"sampling_ratio": 2}', ValueError, "within 0 and 1"), ('{"ratio": 1}', TypeError, "no field 'ratio'")],
)
def test_a_tracing_config_that_makes_no_sense_is_refused(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TracingOptions.from_json(text, TracingOptions())


@pytest.mark.parametrize(
    ("path", "error"), [("span_sink:no_list", TypeError), ("no_such_module:processors", ModuleNotFoundError)]
)
def test_an_exporter_that_cannot_be_used_is_refused(path: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        start_tracing(TracingOptions(True, path), WHO)
    assert active() is None


def test_without_an_exporter_spans_go_to_a_file_of_the_process(tmp_path: Any) -> None:
    start_tracing(TracingOptions(True, "", 1.0), WHO, str(tmp_path))
    try:
        with serving(Back_) as served:
            served.client.get("/")
    finally:
        stop_tracing()
    (file,) = (tmp_path / "meshserve" / "spans").iterdir()
    assert file.name == "replica_app_Model_r1.jsonl" and '"name": "GET /"' in file.read_text()
