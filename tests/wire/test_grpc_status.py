"""What a gRPC client is told of how a call ended: codes, messages, rich details, trailers."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_app import Speaking
from grpc_mesh import GrpcMesh, detail, error_info, status_of
from replicas import on_io
from rpcs.v1.shapes_pb2 import Note

from meshserve.errors import BackPressureError, CallTimeoutError, DeploymentUnavailableError, gRPCStatusError
from meshserve.model.call import Finish
from meshserve.model.failure import Failure, FailureKind
from meshserve.routing.service import Reply, ReplyStream
from meshserve.rpc.status_details import fit


class Failing:
    """A service whose calls end as it was told."""

    def __init__(self, failure: Failure, finish: Finish | None = None) -> None:
        self.failure, self.finish = failure, finish

    def unary(self, call):
        reply = Reply()
        reply.resolve(None, self.failure, self.finish)
        return reply

    def stream(self, call):
        stream = ReplyStream()
        stream.finished(self.failure, self.finish)
        return stream


async def failure_of(mesh, note=None, **kwargs):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.shapes.Unary(note or Note(), **kwargs)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (FailureKind.USER, grpc.StatusCode.INTERNAL),
        (FailureKind.CANCELLED, grpc.StatusCode.CANCELLED),
        (FailureKind.DEADLINE, grpc.StatusCode.DEADLINE_EXCEEDED),
        (FailureKind.BACKPRESSURE, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (FailureKind.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (FailureKind.REPLICA_LOST, grpc.StatusCode.INTERNAL),
        (FailureKind.INVALID, grpc.StatusCode.UNIMPLEMENTED),
        (FailureKind.INTERNAL, grpc.StatusCode.INTERNAL),
    ],
)
def test_every_kind_of_failure_has_its_code_and_an_error_info(kind, code):
    @on_io
    async def check():
        async with GrpcMesh({"one": Failing(Failure(kind, "why"))}) as mesh:
            error = await failure_of(mesh, metadata=(("request_id", "r-1"),))
            assert (error.code(), error.details()) == (code, "why")
            info = error_info(error)
            assert (info.reason, info.domain) == (kind.name, "meshserve.dev")
            assert dict(info.metadata) == {"application": "one", "deployment": "Model", "request_id": "r-1"}
            assert dict(error.trailing_metadata())["request_id"] == "r-1"

            call = mesh.shapes.Down(Note())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                _ = [note async for note in call]
            assert caught.value.code() is code
            assert error_info(caught.value).reason == kind.name

    check()


@on_io
async def test_a_shed_call_says_when_to_try_again():
    async with GrpcMesh({"one": Failing(Failure(FailureKind.BACKPRESSURE, "full", retry_after_s=2.5))}) as mesh:
        error = await failure_of(mesh)
        assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "2500"
        assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 2500
    async with GrpcMesh({"one": Failing(Failure(FailureKind.UNAVAILABLE, "gone"))}) as mesh:
        error = await failure_of(mesh)
        assert "grpc-retry-pushback-ms" not in dict(error.trailing_metadata())
        assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 1000


@on_io
async def test_tracebacks_stay_inside_unless_the_options_say_otherwise():
    failure = Failure(FailureKind.USER, "why", traceback="Traceback: line 1\n" + "x" * 100_000 + "\nKeyError: secret")
    async with GrpcMesh({"one": Failing(failure)}) as mesh:
        error = await failure_of(mesh)
        assert "Traceback" not in str(error.trailing_metadata())
        assert "secret" not in str(error.trailing_metadata())
    async with GrpcMesh({"one": Failing(failure)}, send_tracebacks=True) as mesh:
        assert detail(await failure_of(mesh), error_details_pb2.DebugInfo).detail.endswith("KeyError: secret")


@pytest.mark.parametrize("message", ["x" * 100_000, "é" * 10_000, "😀" * 5_000, "\ud800" * 50 + "y" * 9_000])
def test_a_long_message_is_cut_so_that_the_status_arrives(message):
    @on_io
    async def check():
        async with GrpcMesh({"one": Failing(Failure(FailureKind.USER, message))}) as mesh:
            error = await failure_of(mesh)
            assert error.code() is grpc.StatusCode.INTERNAL
            assert len(error.details()) <= 4096
            assert error.details().endswith("... [truncated]")
            assert error_info(error).reason == "USER"

    check()


def test_a_message_that_fits_is_left_alone():
    assert fit("x" * 2_500) == "x" * 2_500
    assert fit("") == ""
    assert fit("50 % of Größe") == "50 % of Größe"


# -- what user code sets ---------------------------------------------------------------------------------------------


@on_io
async def test_code_and_details_of_a_handler_that_raises_reach_the_client():
    async with GrpcMesh({"one": Speaking}) as mesh:
        error = await failure_of(mesh, Note(text="raise"))
        assert (error.code(), error.details()) == (grpc.StatusCode.PERMISSION_DENIED, "not you")
        assert error_info(error).reason == "USER"
        error = await failure_of(mesh, Note(text="raise without details"))
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "shown")


@on_io
async def test_a_code_other_than_ok_survives_a_normal_return():
    async with GrpcMesh({"one": Speaking}) as mesh:
        error = await failure_of(mesh, Note(text="return"))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such note")
        assert status_of(error).message == "no such note"
        assert (await mesh.shapes.Unary(Note(text="return ok"))).text == "ok"


@on_io
async def test_trailers_arrive_on_return_and_on_raise_and_cannot_hide_the_request_id():
    async with GrpcMesh({"one": Speaking}) as mesh:
        call = mesh.shapes.Unary(Note(), metadata=(("request_id", "r-1"),))
        await call
        error = await failure_of(mesh, Note(text="raise"), metadata=(("request_id", "r-1"),))
        for trailers in (await call.trailing_metadata(), error.trailing_metadata()):
            found = list(trailers)
            assert ("colour", "red") in found
            assert ("raw-bin", b"\0\1") in found
            assert [value for key, value in found if key == "request_id"] == ["r-1"]


@on_io
async def test_trailers_that_grpc_cannot_send_are_the_handlers_error():
    async with GrpcMesh({"one": Speaking}) as mesh:
        error = await failure_of(mesh, Note(text="bad trailers"))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "'Colour' is not a metadata key" in error.details()


@on_io
async def test_initial_metadata_and_compression_go_before_the_response():
    async with GrpcMesh({"one": Speaking}) as mesh:
        call = mesh.shapes.Unary(Note(text="head"))
        assert (await call).text == "x" * 10_000
        assert dict(await call.initial_metadata())["early"] == "bird"
        for stream in (mesh.shapes.Down(Note(number=2)), mesh.shapes.Both(iter([Note(number=0), Note(number=1)]))):
            assert [note.number async for note in stream] == [0, 1]
            assert dict(await stream.initial_metadata())["early"] == "bird"
            assert dict(await stream.trailing_metadata())["after"] == "the-last"
        empty = mesh.shapes.Down(Note(number=0))
        assert [note async for note in empty] == []
        assert dict(await empty.initial_metadata())["early"] == "bird"


@pytest.mark.parametrize(
    ("text", "code", "details"),
    [("code", grpc.StatusCode.DATA_LOSS, "some are missing"), ("raise", grpc.StatusCode.ABORTED, "late")],
)
def test_a_status_set_after_the_last_item_arrives_after_it(text, code, details):
    @on_io
    async def check():
        async with GrpcMesh({"one": Speaking}) as mesh:
            call = mesh.shapes.Down(Note(text=text, number=3))
            numbers = []
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for note in call:
                    numbers.append(note.number)  # noqa: PERF401 - the loop raises at its end
            assert numbers == [0, 1, 2]
            assert (caught.value.code(), caught.value.details()) == (code, details)
            assert dict(caught.value.trailing_metadata())["after"] == "the-last"

    check()


@on_io
async def test_details_made_by_the_user_are_not_replaced():
    finish = Finish(3, "mine", (("grpc-status-details-bin", b"\x08\x03\x12\x04mine"),))
    async with GrpcMesh({"one": Failing(Failure(FailureKind.USER, "why"), finish)}) as mesh:
        error = await failure_of(mesh)
        assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "mine")
        assert not status_of(error).details


class Child:
    """Raises what a call to another deployment may raise."""

    async def Unary(self, request):
        match request.text:
            case "full":
                raise BackPressureError(7, 5, retry_after_s=3.0)
            case "gone":
                raise DeploymentUnavailableError("one#Child")
            case "late":
                raise CallTimeoutError("too late")
            case "status":
                raise gRPCStatusError(ValueError("x"), 5, "no such thing")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("full", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("gone", grpc.StatusCode.UNAVAILABLE),
        ("late", grpc.StatusCode.DEADLINE_EXCEEDED),
        ("status", grpc.StatusCode.NOT_FOUND),
    ],
)
def test_what_a_child_call_raises_keeps_its_code(text, code):
    @on_io
    async def check():
        async with GrpcMesh({"one": Child}) as mesh:
            error = await failure_of(mesh, Note(text=text))
            assert error.code() is code
            if text == "full":
                assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "3000"
            if text == "status":
                assert error.details() == "no such thing"

    check()
