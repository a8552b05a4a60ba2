"""The Open Inference Protocol: what its clients send, what models get, what comes back."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_app import Shapes
from grpc_mesh import GrpcMesh, detail, route
from inference_app import Broken, Count, Echo, Scale
from replicas import on_io

from meshserve import inference
from meshserve.v1.inference_pb2 import (
    ModelInferRequest,
    ModelMetadataRequest,
    ModelReadyRequest,
    ServerLiveRequest,
    ServerMetadataRequest,
    ServerReadyRequest,
)
from meshserve.v1.inference_pb2_grpc import GRPCInferenceServiceStub

DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


def raw_request(model: str, tensors: dict[str, tuple[str, list[int], bytes]], **fields) -> ModelInferRequest:
    """A request with raw elements: by name the datatype, the shape, the bytes."""
    request = ModelInferRequest(model_name=model, **fields)
    for name, (datatype, shape, raw) in tensors.items():
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(raw)
    return request


def scale(x: list[list[float]], factor: int, **fields) -> ModelInferRequest:
    array = np.array(x, "<f4")
    tensors = {"x": ("FP32", list(array.shape), array.tobytes()), "factor": ("INT64", [1], np.int64(factor).tobytes())}
    return raw_request("scale", tensors, **fields)


def echo(datatype: str, shape: list[int], raw: bytes, **parameters: str) -> ModelInferRequest:
    request = raw_request("echo", {"x": (datatype, shape, raw)}, id="7")
    for name, value in parameters.items():
        request.parameters[name].string_param = value
    return request


def served() -> GrpcMesh:
    return GrpcMesh({"scale": Scale, "echo": Echo, "count": Count, "broken": Broken, "other": Shapes})


async def refused(call, code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value.details()
    return caught.value


@on_io
async def test_a_server_tells_that_it_lives_is_ready_and_what_it_is():
    async with served() as mesh:
        stub = GRPCInferenceServiceStub(mesh.channel)
        assert (await stub.ServerLive(ServerLiveRequest())).live
        assert (await stub.ServerReady(ServerReadyRequest())).ready
        assert (await stub.ServerMetadata(ServerMetadataRequest())).name == "meshserve"
        mesh.applications.drain(True)
        assert not (await stub.ServerReady(ServerReadyRequest())).ready


@on_io
async def test_models_are_the_applications_that_opted_in():
    async with served() as mesh:
        stub = GRPCInferenceServiceStub(mesh.channel)
        ready = {
            (name, version): (await stub.ModelReady(ModelReadyRequest(name=name, version=version))).ready
            for name, version in (("scale", ""), ("scale", "2"), ("scale", "3"), ("other", ""), ("no-such", ""))
        }
        assert [key for key, value in ready.items() if value] == [("scale", ""), ("scale", "2")]
        told = await stub.ModelMetadata(ModelMetadataRequest(name="scale"))
        assert (told.name, list(told.versions), told.platform) == ("scale", ["1", "2"], "python")
        assert [(t.name, t.datatype, list(t.shape)) for t in told.inputs] == [
            ("x", "FP32", [-1, 2]),
            ("factor", "INT64", [1]),
        ]
        assert [(t.name, t.datatype, list(t.shape)) for t in told.outputs] == [
            ("product", "FP32", [-1, 2]),
            ("sum", "FP64", []),
        ]
        await refused(stub.ModelMetadata(ModelMetadataRequest(name="no-such")), grpc.StatusCode.NOT_FOUND)
        await refused(stub.ModelMetadata(ModelMetadataRequest(name="scale", version="3")), grpc.StatusCode.NOT_FOUND)
        await refused(stub.ModelInfer(ModelInferRequest(model_name="other")), grpc.StatusCode.UNIMPLEMENTED)


@on_io
async def test_inference_takes_raw_tensors_and_gives_raw_tensors():
    async with served() as mesh:
        reply = await GRPCInferenceServiceStub(mesh.channel).ModelInfer(scale([[1, 2], [3, 4]], 10, id="42"))
        assert (reply.model_name, reply.model_version, reply.id) == ("scale", "2", "42")
        assert [(t.name, t.datatype, list(t.shape)) for t in reply.outputs] == [
            ("product", "FP32", [2, 2]),
            ("sum", "FP64", []),
        ]
        product, total = reply.raw_output_contents
        assert np.frombuffer(product, "<f4").tolist() == [10, 20, 30, 40]
        assert np.frombuffer(total, "<f8").tolist() == [100]


@on_io
async def test_clients_choose_outputs_and_their_order():
    async with served() as mesh:
        infer = GRPCInferenceServiceStub(mesh.channel).ModelInfer
        request = scale([[1, 2]], 1)
        request.outputs.add(name="sum")
        assert [tensor.name for tensor in (await infer(request)).outputs] == ["sum"]
        request.outputs.add(name="product")
        assert [tensor.name for tensor in (await infer(request)).outputs] == ["sum", "product"]
        request.outputs.add(name="no-such")
        await refused(infer(request), grpc.StatusCode.INVALID_ARGUMENT)


@on_io
async def test_the_only_application_is_the_model_of_a_request_without_a_name():
    async with GrpcMesh({"echo": Echo}) as mesh:
        request = echo("INT8", [1], b"\1")
        request.model_name = ""
        reply = await GRPCInferenceServiceStub(mesh.channel).ModelInfer(request)
        assert (reply.model_name, list(reply.raw_output_contents)) == ("echo", [b"\1"])


@on_io
async def test_every_datatype_survives_raw_and_typed():
    async with served() as mesh:
        infer = GRPCInferenceServiceStub(mesh.channel).ModelInfer
        for datatype, dtype in DTYPES.items():
            array = np.array([[0, 1, 1], [1, 0, 1]], dtype)
            reply = await infer(echo(datatype, [2, 3], array.tobytes()))
            assert (reply.outputs[0].datatype, list(reply.outputs[0].shape)) == (datatype, [2, 3])
            assert list(reply.raw_output_contents) == [array.tobytes()]
        for datatype, field in FIELDS.items():
            request = ModelInferRequest(model_name="echo")
            tensor = request.inputs.add(name="x", datatype=datatype, shape=[3])
            getattr(tensor.contents, field).extend([True, False, True] if datatype == "BOOL" else [1, 0, 2])
            reply = await infer(request)
            assert reply.outputs[0].contents == tensor.contents
            assert not reply.raw_output_contents


@on_io
async def test_elements_of_bytes_have_any_length():
    async with served() as mesh:
        infer = GRPCInferenceServiceStub(mesh.channel).ModelInfer
        raw = b"\2\0\0\0ab\0\0\0\0\3\0\0\0\0\1\2"
        assert list((await infer(echo("BYTES", [3], raw))).raw_output_contents) == [raw]
        assert list((await infer(echo("BYTES", [0], b""))).raw_output_contents) == [b""]
        typed = ModelInferRequest(model_name="echo")
        typed.inputs.add(name="x", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([b"ab", b""])
        assert list((await infer(typed)).outputs[0].contents.bytes_contents) == [b"ab", b""]


@on_io
async def test_bfloat16_is_float32_for_the_model():
    async with served() as mesh:
        raw = (np.array([1.5, -2.0], "<f4").view("<u4") >> 16).astype("<u2").tobytes()
        reply = await GRPCInferenceServiceStub(mesh.channel).ModelInfer(echo("BF16", [2], raw))
        assert reply.outputs[0].datatype == "FP32"
        assert np.frombuffer(reply.raw_output_contents[0], "<f4").tolist() == [1.5, -2.0]


BAD = {
    "unknown datatype": echo("FP8", [1], b"\0"),
    "too few elements": echo("FP32", [2], b"\0" * 4),
    "half an element": echo("FP32", [1], b"\0" * 3),
    "a negative dimension": echo("FP32", [-1], b"\0" * 4),
    "bytes that end inside a length": echo("BYTES", [1], b"\0\0"),
    "bytes that end inside an element": echo("BYTES", [1], b"\5\0\0\0ab"),
    "a dimension too large for memory": echo("FP32", [1 << 40, 1 << 40], b""),
    "raw entries for other inputs": ModelInferRequest(model_name="echo", raw_input_contents=[b"\0"]),
    "an output's shared memory": raw_request(
        "echo",
        {"x": ("INT8", [1], b"\1")},
        outputs=[{"name": "x", "parameters": {"shared_memory_region": {"string_param": "a"}}}],
    ),
    "a shape that was not declared": scale([[1, 2, 3]], 1),
    "a missing input": raw_request("scale", {"x": ("FP32", [1, 2], b"\0" * 8)}),
    "another datatype than declared": raw_request(
        "scale", {"x": ("FP64", [1, 2], b"\0" * 16), "factor": ("INT64", [1], b"\0" * 8)}
    ),
    "elements in the wrong field": ModelInferRequest(
        model_name="echo", inputs=[{"name": "x", "datatype": "FP32", "shape": [1], "contents": {"int_contents": [1]}}]
    ),
    "an element out of range": ModelInferRequest(
        model_name="echo", inputs=[{"name": "x", "datatype": "INT8", "shape": [1], "contents": {"int_contents": [300]}}]
    ),
    "typed half floats": ModelInferRequest(
        model_name="echo", inputs=[{"name": "x", "datatype": "FP16", "shape": [1], "contents": {"fp32_contents": [1]}}]
    ),
    "the same input twice": ModelInferRequest(
        model_name="echo",
        inputs=[{"name": "x", "datatype": "INT8", "shape": [0]}, {"name": "x", "datatype": "INT8", "shape": [0]}],
    ),
}


@on_io
async def test_wrong_tensors_are_an_invalid_argument_and_the_next_request_is_served():
    async with GrpcMesh({"scale": Scale, "echo": Echo}) as mesh:
        infer = GRPCInferenceServiceStub(mesh.channel).ModelInfer
        for what, request in BAD.items():
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await infer(request)
            assert (what, caught.value.code()) == (what, grpc.StatusCode.INVALID_ARGUMENT)
            assert detail(caught.value, error_details_pb2.BadRequest).field_violations[0].description
        assert (await infer(scale([[1, 2]], 1))).outputs


@on_io
async def test_what_a_model_gives_against_its_declaration_is_an_internal_error():
    async with served() as mesh:
        infer = GRPCInferenceServiceStub(mesh.channel).ModelInfer
        wants = ("shape", "cast", "z", "mapping")
        for case, word in enumerate(wants):
            request = raw_request("broken", {"case": ("INT8", [1], bytes([case]))})
            assert word in (await refused(infer(request), grpc.StatusCode.INTERNAL)).details()


@on_io
async def test_infer_is_told_what_the_request_says_besides():
    async with GrpcMesh({"echo": Echo}) as mesh:
        request = echo("INT8", [1], b"\1", tenant="a")
        request.parameters["priority"].int64_param = 3
        request.outputs.add(name="x")
        await GRPCInferenceServiceStub(mesh.channel).ModelInfer(request)
        assert mesh.user("echo").seen == [
            inference.InferenceRequest("7", "echo", "", {"tenant": "a", "priority": 3}, ("x",))
        ]


@on_io
async def test_a_stream_answers_in_order_and_survives_requests_that_go_wrong():
    async with served() as mesh:
        call = GRPCInferenceServiceStub(mesh.channel).ModelStreamInfer()
        await call.write(scale([[1, 2]], 2, id="a"))
        await call.write(raw_request("no-such", {}, id="b"))
        await call.write(echo("FP32", [2], b"", fail="x"))
        await call.write(echo("INT8", [1], b"\5"))
        await call.write(raw_request("count", {"upto": ("INT32", [1], np.int32(3).tobytes())}, id="c"))
        await call.done_writing()
        replies = [reply async for reply in call]
        assert [reply.infer_response.id for reply in replies] == ["a", "b", "7", "7", "c", "c", "c"]
        assert ["not found" in replies[1].error_message, "elements" in replies[2].error_message] == [True, True]
        assert [reply.error_message for reply in replies if not reply.error_message] == [""] * 5
        assert [reply.infer_response.raw_output_contents[0][0] for reply in replies[4:]] == [0, 1, 2]


@on_io
async def test_triton_clients_may_ask_for_a_mark_of_the_last_response():
    async with served() as mesh:
        call = GRPCInferenceServiceStub(mesh.channel).ModelStreamInfer()
        for request in (
            scale([[1, 2]], 2),
            raw_request("count", {"upto": ("INT32", [1], np.int32(2).tobytes())}),
        ):
            request.parameters["triton_enable_empty_final_response"].bool_param = True
            await call.write(request)
        await call.done_writing()
        marks = [reply.infer_response.parameters["triton_final_response"].bool_param async for reply in call]
        assert marks == [True, False, False, True]


@on_io
async def test_a_model_of_many_responses_has_no_single_one():
    async with served() as mesh:
        request = raw_request("count", {"upto": ("INT32", [1], np.int32(2).tobytes())})
        infer = GRPCInferenceServiceStub(mesh.channel).ModelInfer
        error = await refused(infer(request), grpc.StatusCode.UNIMPLEMENTED)
        assert "ModelStreamInfer" in error.details()


@on_io
async def test_a_client_that_leaves_its_stream_leaves_nothing_running():
    async with GrpcMesh({"echo": Echo}) as mesh:
        call = GRPCInferenceServiceStub(mesh.channel).ModelStreamInfer()
        for _ in range(3):
            await call.write(echo("INT8", [1], b"\1", wait="yes"))
        while mesh.ongoing("echo") < 3:
            await mesh.until_served("echo")
        call.cancel()
        while mesh.ongoing("echo") or mesh.in_flight.count:
            await mesh.until_served("echo")


@on_io
async def test_models_come_and_go_with_their_applications():
    async with served() as mesh:
        stub = GRPCInferenceServiceStub(mesh.channel)
        mesh.directory.publish(route("echo"))
        await refused(stub.ModelInfer(scale([[1, 2]], 1)), grpc.StatusCode.NOT_FOUND)
        mesh.directory.publish(route("scale"))
        assert (await stub.ModelInfer(scale([[1, 2]], 1))).outputs


def test_a_declaration_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="no datatype 'FLOAT'; there are BOOL"):
        inference.Tensor("x", "FLOAT", [1])
    with pytest.raises(ValueError, match="below -1"):
        inference.Tensor("x", "FP32", [-2])
    with pytest.raises(TypeError, match="a method `infer`"):
        inference.model()(Shapes)
