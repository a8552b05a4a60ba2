"""Which application a gRPC call goes to, and services that come and go with applications."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_app import Shapes, Told
from grpc_mesh import OTHER, SHAPES, GrpcMesh, detail, error_info, route
from replicas import on_io
from rpcs.v1.shapes_pb2 import Note, Number

from meshserve.model.failure import Failure, FailureKind
from meshserve.routing.service import Reply


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def unary(self, call):
        self.call = call
        reply = Reply()
        reply.resolve(None, Failure(FailureKind.USER, self.name))
        return reply

    def stream(self, call):
        raise NotImplementedError


async def answer(mesh, *metadata):
    """Who answered: an application's name, or the code."""
    try:
        await mesh.shapes.Unary(Note(), metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.details() if error.code() is grpc.StatusCode.INTERNAL else error.code()
    raise AssertionError


@on_io
async def test_without_metadata_a_call_goes_to_the_only_application():
    async with GrpcMesh({"one": Named("one")}) as mesh:
        assert await answer(mesh) == "one"
        assert await answer(mesh, ("application", "")) == "one"


@on_io
async def test_the_metadata_application_names_one_of_several():
    async with GrpcMesh({"one": Named("one"), "two": Named("two")}) as mesh:
        assert await answer(mesh, ("application", "two")) == "two"
        assert await answer(mesh, ("application", "one")) == "one"


@on_io
async def test_an_unknown_application_is_not_found_even_if_there_is_only_one():
    async with GrpcMesh({"one": Named("one")}) as mesh:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.shapes.Unary(Note(), metadata=(("application", "other"),))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert caught.value.details().startswith("Application 'other' not found. ")
        assert "one of: one" in caught.value.details()
        info = error_info(caught.value)
        assert (info.reason, info.domain) == ("APPLICATION_NOT_FOUND", "meshserve.dev")
        assert info.metadata["application"] == "other"


@on_io
async def test_several_or_no_applications_and_no_metadata_is_not_found():
    async with GrpcMesh({"one": Named("one"), "two": Named("two")}) as mesh:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.shapes.Unary(Note())
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert caught.value.details().startswith("Application metadata not set, and there are 2 applications.")
        mesh.directory.publish()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.shapes.Unary(Note())
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "there is no application" in caught.value.details()


@on_io
async def test_an_application_can_be_called_as_soon_as_it_is_published_and_no_longer():
    async with GrpcMesh({"one": Named("one"), "two": Named("two")}) as mesh:
        mesh.directory.publish(route("one"))
        assert await answer(mesh, ("application", "two")) is grpc.StatusCode.NOT_FOUND
        mesh.directory.publish(route("one"), route("two"))
        assert await answer(mesh, ("application", "two")) == "two"


@on_io
async def test_every_kind_of_call_is_refused_for_an_unknown_application():
    async with GrpcMesh({"one": Shapes}) as mesh:
        metadata = (("application", "other"),)
        for call in (
            mesh.shapes.Unary(Note(), metadata=metadata),
            mesh.shapes.Down(Note(), metadata=metadata),
            mesh.shapes.Up(metadata=metadata),
            mesh.shapes.Both(metadata=metadata),
        ):
            assert await call.code() is grpc.StatusCode.NOT_FOUND
            assert "request_id" in dict(await call.trailing_metadata())


@on_io
async def test_metadata_reaches_the_call_and_the_handler():
    async with GrpcMesh({"one": Told}) as mesh:
        metadata = (
            ("request_id", "r-1"),
            ("multiplexed_model_id", "m-1"),
            ("session_id", "s-1"),
            ("traceparent", "00-abc-def-01"),
            ("tracestate", "k=v"),
            ("custom", "c"),
        )
        call = mesh.shapes.Unary(Note(), metadata=metadata, timeout=30)
        told = dict(line.split("=", 1) for line in (await call).text.splitlines())
        assert told["request_id"] == told["md request_id"] == "r-1"
        assert told["application"] == "one"
        assert told["model"] == "m-1"
        assert (told["traceparent"], told["tracestate"]) == ("00-abc-def-01", "k=v")
        assert told["method"] == "/meshserve.tests.v1.ShapesService/Unary"
        assert told["peer"] == "ipv4"
        assert 20 < float(told["remaining"]) < 31  # gRPC rounds what it puts on the wire
        assert told["md custom"] == "c"
        assert (told["identities"], told["identity_key"], told["auth"]) == ("None", "None", "[]")
        assert dict(await call.trailing_metadata())["request_id"] == "r-1"


@on_io
async def test_without_a_deadline_the_handler_sees_none_and_the_request_id_is_made():
    async with GrpcMesh({"one": Told}) as mesh:
        call = mesh.shapes.Unary(Note())
        told = dict(line.split("=", 1) for line in (await call).text.splitlines())
        assert told["remaining"] == "None"
        assert told["request_id"] == dict(await call.trailing_metadata())["request_id"] != ""


@on_io
async def test_session_and_client_are_in_the_calls_context_and_a_huge_request_id_is_cut():
    service = Named("one")
    async with GrpcMesh({"one": service}) as mesh:
        await answer(mesh, ("session_id", "s-1"), ("request_id", "x" * 5000))
        context = service.call.context
        assert context.session_id == "s-1"
        assert context.request_id == "x" * 128
        assert context.client.startswith("127.0.0.1:")
        assert context.grpc.servicer_function == SHAPES


def write_module(path):
    path.write_text("from rpcs.v1.shapes_pb2_grpc import add_OtherServiceServicer_to_server as add")


# -- services that applications bring --------------------------------------------------------------------------------


@on_io
async def test_services_join_with_an_application_and_leave_with_it():
    async with GrpcMesh({"one": Shapes}, functions=()) as mesh:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.shapes.Unary(Note())
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "is its servicer function among" in caught.value.details().lower()

        mesh.directory.publish(route("one", SHAPES, OTHER))
        assert (await mesh.shapes.Unary(Note(text="hi"))).text == "HI"
        assert (await mesh.other.Unary(Number(value=2))).value == 4

        mesh.directory.publish(route("one", OTHER))
        await mesh.until_served("meshserve.tests.v1.ShapesService", served=False)
        with pytest.raises(grpc.aio.AioRpcError, match="no service"):
            await mesh.shapes.Unary(Note())
        assert (await mesh.other.Unary(Number(value=2))).value == 4


@on_io
async def test_calls_of_every_kind_wait_while_their_service_is_being_loaded():
    async with GrpcMesh({"one": Shapes}, functions=()) as mesh:
        mesh.directory.publish(route("one", SHAPES))
        calls = [mesh.shapes.Unary(Note(text="hi")), mesh.shapes.Up(iter([Note(number=2)]))]
        streams = [mesh.shapes.Down(Note(number=3)), mesh.shapes.Both(iter([Note(number=2)]))]
        assert [await call for call in calls] == [Note(text="HI"), Note(number=2)]
        assert [[note.number async for note in stream] for stream in streams] == [[0, 1, 2], [4]]


@on_io
async def test_a_stream_outlives_the_departure_of_its_service():
    async with GrpcMesh({"one": Shapes}, functions=()) as mesh:
        mesh.directory.publish(route("one", SHAPES))
        await mesh.until_served("meshserve.tests.v1.ShapesService")
        call = mesh.shapes.Both()
        await call.write(Note(number=1))
        assert (await call.read()).number == 2
        mesh.directory.publish(route("one"))
        await mesh.until_served("meshserve.tests.v1.ShapesService", served=False)
        await call.write(Note(number=2))
        assert (await call.read()).number == 4
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK


@on_io
async def test_a_service_that_cannot_be_loaded_does_not_hurt_the_others():
    async with GrpcMesh({"one": Shapes}, functions=(OTHER,)) as mesh:
        mesh.directory.publish(route("one", "gone.module.add_X", SHAPES))
        await mesh.until_served("meshserve.tests.v1.ShapesService")
        assert (await mesh.shapes.Unary(Note(text="hi"))).text == "HI"
        unknown = mesh.channel.unary_unary("/gone.Service/Method")
        with pytest.raises(grpc.aio.AioRpcError, match=r"could not be loaded: gone\.module\.add_X"):
            await unknown(b"")


@on_io
async def test_modules_of_an_application_are_imported_from_its_folders():
    with tempfile.TemporaryDirectory() as folder:
        write_module(Path(folder, "brought_along.py"))
        async with GrpcMesh({"one": Shapes}, functions=()) as mesh:
            mesh.directory.publish(route("one", "brought_along:add", import_paths=(folder, "/no/such/folder")))
            await mesh.until_served("meshserve.tests.v1.OtherService")
            assert (await mesh.other.Unary(Number(value=2))).value == 4
            assert "/no/such/folder" not in sys.path
        sys.path.remove(folder)


@on_io
async def test_an_unknown_method_of_a_known_service_is_unimplemented_and_names_the_methods():
    async with GrpcMesh({"one": Shapes}) as mesh:
        unknown = mesh.channel.unary_unary("/meshserve.tests.v1.ShapesService/Sideways")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unknown(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "has no method 'Sideways'; it has Both, Down, Unary, Up" in caught.value.details()
        assert detail(caught.value, error_details_pb2.ErrorInfo).reason == "METHOD_NOT_FOUND"
        assert dict(caught.value.trailing_metadata())["request_id"]
