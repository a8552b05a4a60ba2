"""The services every gRPC ingress has: health, reflection, applications, calls without protos, channelz."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.struct_pb2 import Value
from google.rpc import error_details_pb2
from grpc_app import Generic, Shapes
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_mesh import OTHER, SHAPES, GrpcMesh, detail, error_info, route
from grpc_reflection.v1alpha import reflection_pb2
from replicas import on_io

from meshserve.generated import serve_pb2, serve_pb2_grpc
from meshserve.v1 import application_pb2, generic_pb2
from meshserve.v1.application_pb2_grpc import ApplicationServiceStub
from meshserve.v1.generic_pb2_grpc import CallServiceStub
from meshserve.wire.json_values import decode_json, encode_arguments_json, encode_json

SERVING, NOT_SERVING, UNKNOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
    health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
)


# -- health ----------------------------------------------------------------------------------------------------------


async def check(mesh, service=""):
    return (await health_pb2_grpc.HealthStub(mesh.channel).Check(health_pb2.HealthCheckRequest(service=service))).status


@on_io
async def test_health_knows_the_server_every_application_and_every_service():
    async with GrpcMesh({"one": Shapes, "two": Shapes}) as mesh:
        for name in ("", "one", "two", "meshserve.tests.v1.ShapesService", "grpc.health.v1.Health"):
            assert await check(mesh, name) == SERVING
        listed = await health_pb2_grpc.HealthStub(mesh.channel).List(health_pb2.HealthListRequest())
        assert {"", "one", "two", "meshserve.tests.v1.OtherService"} <= set(listed.statuses)
        assert {status.status for status in listed.statuses.values()} == {SERVING}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(mesh, "three")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        info = error_info(caught.value)
        assert (info.reason, info.metadata["service"]) == ("SERVICE_NOT_FOUND", "three")


@on_io
async def test_an_application_that_failed_is_not_serving_and_its_neighbours_are():
    async with GrpcMesh({"one": Shapes, "two": Shapes}) as mesh:
        mesh.directory.failed.add(route("one").ingress)
        assert [await check(mesh, name) for name in ("one", "two", "")] == [NOT_SERVING, SERVING, SERVING]
        mesh.directory.failed.clear()
        assert await check(mesh, "one") == SERVING


@on_io
async def test_health_watch_follows_an_application_and_a_drain():
    async with GrpcMesh({"one": Shapes, "two": Shapes}) as mesh:
        watch = health_pb2_grpc.HealthStub(mesh.channel).Watch
        two, whole = (watch(health_pb2.HealthCheckRequest(service=name)) for name in ("two", ""))
        assert (await two.read()).status == SERVING
        assert (await whole.read()).status == SERVING
        mesh.directory.publish(route("one"))
        assert (await two.read()).status == UNKNOWN
        mesh.directory.publish(route("one"), route("two"))
        assert (await two.read()).status == SERVING
        mesh.applications.drain(True)
        assert (await two.read()).status == NOT_SERVING
        assert (await whole.read()).status == NOT_SERVING
        mesh.applications.drain(False)
        assert (await whole.read()).status == SERVING


@on_io
async def test_a_server_that_drains_says_so_serves_what_it_has_and_ends():
    async with GrpcMesh({"one": Shapes}) as mesh:
        whole = health_pb2_grpc.HealthStub(mesh.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await whole.read()).status == SERVING
        call = mesh.shapes.Both()
        await call.write(mesh.note(1))
        assert (await call.read()).number == 2
        draining = asyncio.create_task(mesh.ingress.drain(20))
        assert (await whole.read()).status == NOT_SERVING
        assert await whole.code() is grpc.StatusCode.UNAVAILABLE
        await call.write(mesh.note(2))
        assert (await call.read()).number == 4
        assert not draining.done()
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        await draining


# -- applications ----------------------------------------------------------------------------------------------------


@on_io
async def test_applications_are_listed_and_health_is_told_under_both_names():
    async with GrpcMesh({"two": Shapes, "one": Shapes}) as mesh:
        stub = ApplicationServiceStub(mesh.channel)
        listed = await stub.ListApplications(application_pb2.ListApplicationsRequest())
        assert list(listed.application_names) == ["one", "two"]
        assert (await stub.Healthz(application_pb2.HealthzRequest())).message == "success"

        peer_list = mesh.channel.unary_unary("/ray.serve.RayServeAPIService/ListApplications")
        assert application_pb2.ListApplicationsResponse.FromString(await peer_list(b"")) == listed
        peer_health = mesh.channel.unary_unary("/ray.serve.RayServeAPIService/Healthz")
        assert await peer_health(b"") == b"\n\x07success"

        ported = serve_pb2_grpc.RayServeAPIServiceStub(mesh.channel)
        assert await ported.ListApplications(serve_pb2.ListApplicationsRequest()) == listed
        assert (await ported.Healthz(serve_pb2.HealthzRequest())).message == "success"


@on_io
async def test_a_proxy_that_is_not_well_says_why():
    async with GrpcMesh({"one": Shapes}) as mesh:
        stub = ApplicationServiceStub(mesh.channel)
        mesh.applications.drain(True)
        for call in (
            stub.Healthz(application_pb2.HealthzRequest()),
            stub.ListApplications(application_pb2.ListApplicationsRequest()),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert caught.value.details() == "This node is being drained."
            assert error_info(caught.value).reason == "NOT_READY"
        assert (await mesh.shapes.Unary(mesh.note(1))).number == 1
    mesh = GrpcMesh({})
    async with mesh:
        with pytest.raises(grpc.aio.AioRpcError, match="Route table is not populated yet"):
            await ApplicationServiceStub(mesh.channel).Healthz(application_pb2.HealthzRequest())


# -- reflection ------------------------------------------------------------------------------------------------------


async def reflect(mesh, version, **request):
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    call = mesh.channel.stream_stream(
        method,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(iter([reflection_pb2.ServerReflectionRequest(**request)]))
    return await call.read()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_user_and_built_in_services_in_both_versions(version):
    @on_io
    async def check():
        async with GrpcMesh({"one": Shapes}) as mesh:
            listed = await reflect(mesh, version, list_services="")
            names = {service.name for service in listed.list_services_response.service}
            assert names == {
                "meshserve.tests.v1.ShapesService",
                "meshserve.tests.v1.OtherService",
                "meshserve.v1.ApplicationService",
                "meshserve.v1.CallService",
                "inference.GRPCInferenceService",
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
            }

    check()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_a_client_can_build_any_listed_service_from_its_description_and_call_it(version):
    @on_io
    async def check():
        async with GrpcMesh({"one": Shapes}) as mesh:
            pool = descriptor_pool.DescriptorPool()
            for service in (
                "meshserve.tests.v1.ShapesService",
                "inference.GRPCInferenceService",
                f"grpc.reflection.{version}.ServerReflection",
            ):
                found = await reflect(mesh, version, file_containing_symbol=service)
                for file in found.file_descriptor_response.file_descriptor_proto:
                    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(file))
                assert pool.FindServiceByName(service).methods
            note = message_factory.GetMessageClass(pool.FindMessageTypeByName("meshserve.tests.v1.Note"))
            unary = mesh.channel.unary_unary(
                "/meshserve.tests.v1.ShapesService/Unary", note.SerializeToString, note.FromString
            )
            assert (await unary(note(text="hi"))).text == "HI"
            missing = await reflect(mesh, version, file_containing_symbol="no.such.Thing")
            assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]

    check()


@pytest.mark.parametrize("symbol", ["ShapesService.Both", "Note", "Note.text"])
@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_services_methods_messages_and_fields_are_symbols(version, symbol):
    @on_io
    async def check():
        async with GrpcMesh({"one": Shapes}) as mesh:
            found = await reflect(mesh, version, file_containing_symbol=f"meshserve.tests.v1.{symbol}")
            (file, *_) = found.file_descriptor_response.file_descriptor_proto
            assert descriptor_pb2.FileDescriptorProto.FromString(file).name == "rpcs/v1/shapes.proto"
            missing = await reflect(mesh, version, file_containing_symbol=f"meshserve.tests.v1.{symbol}x")
            assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]

    check()


@on_io
async def test_services_that_applications_bring_are_described_too():
    async with GrpcMesh({"one": Shapes}, functions=()) as mesh:
        mesh.directory.publish(route("one", OTHER))
        await mesh.until_served("meshserve.tests.v1.OtherService")
        listed = await reflect(mesh, "v1", list_services="")
        assert "meshserve.tests.v1.OtherService" in {item.name for item in listed.list_services_response.service}


@on_io
async def test_reflection_and_the_call_service_can_be_switched_off():
    async with GrpcMesh({"one": Generic}, enable_reflection=False, enable_call_service=False) as mesh:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reflect(mesh, "v1", list_services="")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await CallServiceStub(mesh.channel).Call(generic_pb2.CallServiceCallRequest())
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@on_io
async def test_channelz_is_an_option():
    async with GrpcMesh({"one": Shapes}, functions=(SHAPES,), enable_channelz=True) as mesh:
        servers = mesh.channel.unary_unary("/grpc.channelz.v1.Channelz/GetServers")
        assert await servers(b"")


# -- calls without protos --------------------------------------------------------------------------------------------


async def invoke(mesh, method="", *args, raw=None, application="", metadata=(), **kwargs):
    request = generic_pb2.CallServiceCallRequest(application=application, method=method)
    if raw is not None:
        request.raw = raw
    else:
        request.json.CopyFrom(encode_arguments_json(args, kwargs))
    response = await CallServiceStub(mesh.channel).Call(request, metadata=metadata)
    return response.raw if response.WhichOneof("output") == "raw" else decode_json(response.json.SerializeToString())


@on_io
async def test_methods_take_and_give_json_values():
    async with GrpcMesh({"one": Generic}) as mesh:
        assert await invoke(mesh, "add", 1, 2) == 3
        assert await invoke(mesh, "add", 1, b=2, c=0.5) == 3.5
        assert await invoke(mesh, "add", "a", "b", c="c") == "abc"
        assert await invoke(mesh, "reverse", [1, "two", None, {"three": [True]}]) == [{"three": [True]}, None, "two", 1]
        assert await invoke(mesh) == {"got": None}
        assert await invoke(mesh, "__call__", {}) == {"got": {}}
        empty = await CallServiceStub(mesh.channel).Call(generic_pb2.CallServiceCallRequest())
        assert empty.json.struct_value.fields["got"].WhichOneof("kind") == "null_value"


@on_io
async def test_methods_take_and_give_raw_bytes():
    async with GrpcMesh({"one": Generic}) as mesh:
        assert await invoke(mesh, "reverse", raw=b"\0\1\2") == b"\2\1\0"
        assert await invoke(mesh, "reverse", raw=b"") == b""


@on_io
async def test_generators_are_streamed():
    async with GrpcMesh({"one": Generic}) as mesh:
        request = generic_pb2.CallServiceCallStreamRequest(method="count", json=encode_arguments_json([4], {}))
        items = [
            item.raw if item.WhichOneof("output") == "raw" else decode_json(item.json.SerializeToString())
            async for item in CallServiceStub(mesh.channel).CallStream(request)
        ]
        assert items == [b"\0", {"number": 1}, b"\2", {"number": 3}]


@on_io
async def test_the_application_is_named_in_the_request_or_in_the_metadata():
    async with GrpcMesh({"one": Generic, "two": Generic}) as mesh:
        assert await invoke(mesh, "add", 1, 2, application="two") == 3
        assert await invoke(mesh, "add", 1, 2, metadata=(("application", "two"),)) == 3
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await invoke(mesh, "add", 1, 2)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await invoke(mesh, "add", 1, 2, application="three", metadata=(("application", "two"),))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("method", "args", "code", "message"),
    [
        ("nothing", [], grpc.StatusCode.UNIMPLEMENTED, "has no method 'nothing'"),
        ("_private", [], grpc.StatusCode.UNIMPLEMENTED, "'_private' is not a method for clients"),
        ("__init__", [], grpc.StatusCode.UNIMPLEMENTED, "'__init__' is not a method for clients"),
        ("check_health", [], grpc.StatusCode.UNIMPLEMENTED, "'check_health' is not a method for clients"),
        ("secret", [], grpc.StatusCode.UNIMPLEMENTED, "has no method 'secret'"),
        ("add", [1], grpc.StatusCode.INVALID_ARGUMENT, "the arguments do not fit 'add': missing a required argument"),
        ("add", [1, None], grpc.StatusCode.INTERNAL, "unsupported operand"),
        ("count", [3], grpc.StatusCode.INTERNAL, "'count' is a generator: call it with CallStream"),
        ("unspeakable", [], grpc.StatusCode.INTERNAL, "a value of type object has no form in JSON"),
    ],
)
def test_calls_without_protos_that_cannot_be_answered_say_why(method, args, code, message):
    @on_io
    async def check():
        async with GrpcMesh({"one": Generic}) as mesh:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await invoke(mesh, method, *args)
            assert caught.value.code() is code
            assert message in caught.value.details()
            assert mesh.user("one").secret == 0
            if code is grpc.StatusCode.INVALID_ARGUMENT:
                bad = detail(caught.value, error_details_pb2.BadRequest)
                assert message in bad.field_violations[0].description
            assert error_info(caught.value).metadata["application"] == "one"

    check()


@on_io
async def test_a_method_that_returns_one_value_is_not_streamed():
    async with GrpcMesh({"one": Generic}) as mesh:
        request = generic_pb2.CallServiceCallStreamRequest(method="add", json=encode_arguments_json([1, 2], {}))
        with pytest.raises(grpc.aio.AioRpcError, match="not a generator: call it with Call"):
            _ = [item async for item in CallServiceStub(mesh.channel).CallStream(request)]


def test_json_values_keep_what_json_can_say():
    value = {"a": [1, -2, 0.5, 2**53, "text", True, False, None, {}], "b": {"c": []}}
    assert decode_json(encode_json(value)) == value
    assert type(decode_json(encode_json(3))) is int
    assert decode_json(encode_json(np.array([[1, 2], [3, 4]]))) == [[1, 2], [3, 4]]
    assert decode_json(encode_json(np.float32(0.5))) == 0.5
    assert decode_json(Value().SerializeToString()) is None


@pytest.mark.parametrize("value", [2**53 + 1, {1: "x"}, object(), [b"bytes"], {"deep": [object]}])
def test_json_values_refuse_what_json_cannot_say(value):
    with pytest.raises(TypeError):
        encode_json(value)
