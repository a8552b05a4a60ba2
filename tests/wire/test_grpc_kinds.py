"""User services behind the gRPC ingress: all four kinds of methods, handlers of every form."""

from __future__ import annotations

import grpc
import pytest
from grpc_app import Generic, Misfits, Shapes, SyncShapes, TwoServices, whatever
from grpc_mesh import OTHER, SHAPES, GrpcMesh, error_info
from replicas import on_io
from rpcs.v1.shapes_pb2 import Note, Number


def notes(*numbers):
    return iter([Note(number=number) for number in numbers])


@on_io
async def test_asynchronous_handlers_serve_all_four_kinds():
    async with GrpcMesh({"app": Shapes}) as mesh:
        assert await mesh.shapes.Unary(Note(text="hi", number=7)) == Note(text="HI", number=7)
        assert [note.number async for note in mesh.shapes.Down(Note(number=4))] == [0, 1, 2, 3]
        assert (await mesh.shapes.Up(notes(1, 2, 3))).number == 6
        assert [note.number async for note in mesh.shapes.Both(notes(1, 2, 3))] == [2, 4, 6]


@on_io
async def test_synchronous_handlers_serve_all_four_kinds_on_worker_threads():
    async with GrpcMesh({"app": SyncShapes}) as mesh:
        assert (await mesh.shapes.Unary(Note())).text.startswith("meshserve-sync")
        items = [note async for note in mesh.shapes.Down(Note(number=3))]
        assert [note.number for note in items] == [0, 1, 2]
        assert all(note.text.startswith("meshserve-sync") for note in items)
        assert (await mesh.shapes.Up(notes(1, 2, 3))).number == 6
        assert [note.number async for note in mesh.shapes.Both(notes(1, 2, 3))] == [2, 4, 6]


@on_io
async def test_empty_streams_are_streams():
    async with GrpcMesh({"app": Shapes}) as mesh:
        assert [note async for note in mesh.shapes.Down(Note(number=0))] == []
        assert (await mesh.shapes.Up(notes())).number == 0
        assert [note async for note in mesh.shapes.Both(notes())] == []


@on_io
async def test_both_sides_of_a_bidirectional_call_take_turns():
    async with GrpcMesh({"app": Shapes}) as mesh:
        call = mesh.shapes.Both()
        for number in (3, 5, 8):
            await call.write(Note(number=number))
            assert (await call.read()).number == number * 2
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


@on_io
async def test_a_long_stream_arrives_whole_and_in_order():
    async with GrpcMesh({"app": Shapes}) as mesh:
        assert [note.number async for note in mesh.shapes.Down(Note(number=5000))] == list(range(5000))
        assert (await mesh.shapes.Up(notes(*range(3000)))).number == sum(range(3000))


@on_io
async def test_services_with_a_method_of_the_same_name_share_a_handler_and_keep_their_messages():
    async with GrpcMesh({"app": Shapes}) as mesh:
        assert (await mesh.shapes.Unary(Note(text="hi"))).text == "HI"
        assert (await mesh.other.Unary(Number(value=1.5))).value == 3.0


@on_io
async def test_a_handler_named_after_service_and_method_goes_before_the_shared_one():
    async with GrpcMesh({"app": TwoServices}) as mesh:
        assert (await mesh.shapes.Unary(Note())).text == "of ShapesService"
        assert (await mesh.other.Unary(Number(value=1.5))).value == -1.5


@on_io
async def test_a_method_may_be_called_like_the_call_of_the_object():
    async with GrpcMesh({"app": Generic}, functions=("grpc_app.add_callable_service",)) as mesh:
        call = mesh.channel.unary_unary(
            "/meshserve.tests.v1.CallableService/__call__", Note.SerializeToString, Note.FromString
        )
        assert (await call(Note(text="hi"))).text == "hi"


@on_io
async def test_a_function_deployment_serves_every_method_that_its_result_fits():
    async with GrpcMesh({"app": whatever}) as mesh:
        assert (await mesh.shapes.Unary(Note(text="hi"))).text == "hi"
        assert (await mesh.other.Unary(Number(value=1.5))).value == 1.5
        with pytest.raises(grpc.aio.AioRpcError, match="make it a generator"):
            _ = [note async for note in mesh.shapes.Down(Note())]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none", "gave NoneType, not the protobuf message meshserve.tests.v1.Note"),
        ("dict", "gave dict, not the protobuf message meshserve.tests.v1.Note"),
        ("generator", "has one response, but its handler is a generator"),
    ],
)
def test_a_result_that_is_not_the_message_is_an_internal_error_that_says_so(text, message):
    @on_io
    async def check():
        async with GrpcMesh({"app": Misfits}) as mesh:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await mesh.shapes.Unary(Note(text=text))
            assert caught.value.code() is grpc.StatusCode.INTERNAL
            assert message in caught.value.details()

    check()


@on_io
async def test_another_protobuf_message_than_the_declared_one_is_sent_as_it_is():
    async with GrpcMesh({"app": Misfits}) as mesh:
        call = mesh.channel.unary_unary("/meshserve.tests.v1.ShapesService/Unary", Note.SerializeToString)
        assert await call(Note(text="other message")) == Number(value=1).SerializeToString()


@on_io
async def test_a_handler_of_the_wrong_form_is_an_internal_error_that_says_so():
    async with GrpcMesh({"app": Misfits}) as mesh:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [note async for note in mesh.shapes.Down(Note())]
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "streams its responses, but its handler returned Note: make it a generator" in caught.value.details()
        with pytest.raises(grpc.RpcError) as caught:
            await mesh.blocking(lambda stub: stub.Up(notes(1)))
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "has one response, but its handler is a generator" in caught.value.details()


@on_io
async def test_a_method_that_the_users_class_does_not_have_is_unimplemented_and_names_those_it_has():
    async with GrpcMesh({"app": Misfits}) as mesh:
        with pytest.raises(grpc.RpcError) as caught:
            await mesh.blocking(lambda stub: list(stub.Both(notes(1))))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "has no method 'Both'. Available methods: ['Down', 'Unary', 'Up']" in caught.value.details()
        assert error_info(caught.value).reason == "INVALID"


@on_io
async def test_one_service_can_be_served_without_the_other():
    async with GrpcMesh({"app": Shapes}, functions=(OTHER,)) as mesh:
        assert (await mesh.other.Unary(Number(value=1))).value == 2
        with pytest.raises(grpc.aio.AioRpcError, match=r"no service 'meshserve\.tests\.v1\.ShapesService' here"):
            await mesh.shapes.Unary(Note())


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("no_such_module.add_X", ModuleNotFoundError, "no module named 'no_such_module'"),
        ("rpcs.v1.nowhere_pb2_grpc.add_X", ModuleNotFoundError, "no module named 'rpcs.v1.nowhere_pb2_grpc'"),
        ("rpcs.v1.shapes_pb2_grpc.add_Nothing", ValueError, "has no attribute 'add_Nothing'"),
        ("rpcs.v1.shapes_pb2_grpc.GRPC_VERSION", ValueError, "is not a function but str"),
        ("builtins.print", ValueError, "added no method"),
        ("grpc_app.whatever", ValueError, "failed when it was called as add_XServicer_to_server"),
        ("add_X", ModuleNotFoundError, "is not an import path"),
    ],
)
def test_a_servicer_function_that_is_none_keeps_the_ingress_from_starting_and_is_named(function, error, message):
    @on_io
    async def check():
        mesh = GrpcMesh({}, functions=(SHAPES, function))
        with pytest.raises(error) as caught:
            await mesh.ingress.start()
        assert function in str(caught.value)
        assert message in str(caught.value)

    check()
