"""gRPC clients against a mesh of real processes."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from conftest import Addresses, RunningApplication
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

import meshserve as serve
from meshserve import inference
from meshserve.v1 import (
    application_pb2,
    application_pb2_grpc,
    generic_pb2,
    generic_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
)
from meshserve.wire.json_values import decode_json, encode_arguments_json

# The services of the wire tests. This folder reaches replicas and proxies with the application, as a driver's would.
sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))

from rpcs.v1.shapes_pb2 import Note
from rpcs.v1.shapes_pb2_grpc import ShapesServiceStub, add_ShapesServiceServicer_to_server

Run = Callable[..., RunningApplication]
LIGHT: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_wait_loop_s": 0.0}


@serve.deployment(max_ongoing_requests=100, **LIGHT)
class Shapes:
    def __init__(self) -> None:
        self.cancelled = 0

    async def Unary(self, request: Any, grpc_context: Any) -> Any:
        grpc_context.set_trailing_metadata([("served-by", serve.get_replica_context().replica_tag)])
        if request.text == "refuse":
            grpc_context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
            grpc_context.set_details("not today")
            raise ValueError(request.text)
        if request.text == "fail":
            raise KeyError("secret of the traceback")
        return Note(text=request.text.upper(), number=request.number)

    async def Down(self, request: Any) -> Any:
        try:
            for number in range(request.number):
                yield Note(number=number)
            if request.text == "wait":
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def Up(self, requests: Any) -> Any:
        return Note(number=sum(request.number for request in requests))

    async def Both(self, requests: Any) -> Any:
        async for request in requests:
            yield Note(number=request.number * 2)

    def cancellations(self) -> int:
        return self.cancelled

    def add(self, a: int, b: int) -> int:
        return a + b


@pytest.fixture
def shapes(run: Run, mesh: Addresses) -> Iterator[tuple[RunningApplication, ShapesServiceStub, grpc.Channel]]:
    """An application that brings its own service and has no route prefix, and a stub for it."""
    app = run(Shapes.bind(), route_prefix=None, grpc_servicer_functions=[add_ShapesServiceServicer_to_server])
    with grpc.insecure_channel(mesh.grpc) as channel:
        yield app, ShapesServiceStub(channel), channel


def served(channel: grpc.Channel, name: str) -> bool:
    """Whether health says that an application or a service serves."""
    try:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
    except grpc.RpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Returns once the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def notes(*numbers: int) -> Iterator[Note]:
    return iter([Note(number=number) for number in numbers])


def test_a_service_that_came_with_its_application_serves_all_four_kinds(shapes: Any) -> None:
    app, stub, _ = shapes
    to = {"metadata": (("application", app.name),), "timeout": 30}
    assert stub.Unary(Note(text="hi", number=3), **to) == Note(text="HI", number=3)
    assert [note.number for note in stub.Down(Note(number=100), **to)] == list(range(100))
    assert stub.Up(notes(1, 2, 3), **to).number == 6
    assert [note.number for note in stub.Both(notes(1, 2, 3), **to)] == [2, 4, 6]

    with ThreadPoolExecutor(16) as pool:
        replies = pool.map(lambda number: stub.Unary(Note(number=number), **to).number, range(200))
        assert list(replies) == list(range(200))


def test_status_and_trailers_of_the_handler_reach_the_client_and_tracebacks_do_not(shapes: Any) -> None:
    app, stub, _ = shapes
    to = {"metadata": (("application", app.name), ("request_id", "r-1")), "timeout": 30}
    with pytest.raises(grpc.RpcError) as caught:
        stub.Unary(Note(text="refuse"), **to)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not today")
    trailers = dict(caught.value.trailing_metadata())
    assert trailers["served-by"]
    assert trailers["request_id"] == "r-1"

    with pytest.raises(grpc.RpcError) as caught:
        stub.Unary(Note(text="fail"), **to)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert (info.reason, info.metadata["application"]) == ("USER", app.name)
    assert b"Traceback" not in status.SerializeToString()


def test_cancelling_and_deadlines_reach_user_code(shapes: Any) -> None:
    app, stub, _ = shapes
    call = stub.Down(Note(text="wait", number=1), metadata=(("application", app.name),))
    assert next(call).number == 0
    call.cancel()
    wait_until(lambda: app.handle.cancellations.remote().result() == 1)

    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Down(Note(text="wait"), metadata=(("application", app.name),), timeout=0.3))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: app.handle.cancellations.remote().result() == 2)


def test_an_unknown_application_is_not_found(shapes: Any) -> None:
    _, stub, _ = shapes
    with pytest.raises(grpc.RpcError) as caught:
        stub.Unary(Note(), metadata=(("application", "no-such"),), timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "'no-such' not found" in caught.value.details()


def test_clients_without_protos_call_any_method_and_find_the_application_listed(shapes: Any) -> None:
    app, _, channel = shapes
    listed = application_pb2_grpc.ApplicationServiceStub(channel).ListApplications(
        application_pb2.ListApplicationsRequest(), timeout=30
    )
    assert app.name in listed.application_names
    assert served(channel, app.name)
    request = generic_pb2.CallServiceCallRequest(
        application=app.name, method="add", json=encode_arguments_json([1, 2], {})
    )
    reply = generic_pb2_grpc.CallServiceStub(channel).Call(request, timeout=30)
    assert decode_json(reply.json.SerializeToString()) == 3


def test_a_program_outside_the_cluster_calls_by_connect(shapes: Any, mesh: Addresses) -> None:
    app, _, _ = shapes
    with serve.connect(mesh.grpc) as outside:
        assert outside.application(app.name).add.remote(1, 2).result(timeout_s=30) == 3
        assert app.name in outside.applications()


@serve.deployment(**LIGHT)
@inference.model(inputs=[inference.Tensor("x", "FP32", [-1])])
class Doubling:
    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"y": inputs["x"] * 2}


def test_an_application_that_opted_in_is_a_model(run: Run, mesh: Addresses) -> None:
    app = run(Doubling.bind(), route_prefix=None)
    request = inference_pb2.ModelInferRequest(model_name=app.name)
    request.inputs.add(name="x", datatype="FP32", shape=[2])
    request.raw_input_contents.append(np.array([1, 2], np.float32).tobytes())
    with grpc.insecure_channel(mesh.grpc) as channel:
        reply = inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
    assert np.frombuffer(reply.raw_output_contents[0], np.float32).tolist() == [2, 4]
    assert app.handle.infer.remote({"x": np.ones(1)}).result()["y"].tolist() == [2]


def test_a_service_leaves_with_its_application(run: Run, mesh: Addresses) -> None:
    app = run(Shapes.bind(), grpc_servicer_functions=[add_ShapesServiceServicer_to_server])
    with grpc.insecure_channel(mesh.grpc) as channel:
        assert ShapesServiceStub(channel).Unary(Note(number=1), metadata=(("application", app.name),)).number == 1
        serve.delete(app.name)
        wait_until(lambda: not served(channel, "meshserve.tests.v1.ShapesService"))
        with pytest.raises(grpc.RpcError) as caught:
            ShapesServiceStub(channel).Unary(Note(), metadata=(("application", app.name),), timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
