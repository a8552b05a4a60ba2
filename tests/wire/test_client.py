"""`meshserve.connect`: programs outside the mesh, over the generic service."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_mesh import GrpcMesh
from replicas import on_io

import meshserve as serve
from meshserve.client.channel import Endpoint, service_config
from meshserve.client.connection import Connection
from meshserve.client.response import AHEAD_BYTES, AHEAD_ITEMS, ResponseStream
from meshserve.errors import (
    BackPressureError,
    CallTimeoutError,
    DeploymentUnavailableError,
    IngressError,
    InvalidCallError,
    RemoteError,
    RequestCancelledError,
)
from meshserve.model.failure import Failure, FailureKind
from meshserve.routing.service import CallFailed
from meshserve.rpc.io_thread import io_thread
from meshserve.v1.generic_pb2 import CallServiceCallStreamResponse


@dataclass
class Box:
    width: int


class Math:
    """What the clients call."""

    def __init__(self) -> None:
        self.running = 0

    async def __call__(self, value=None):
        return {"got": value}

    def add(self, a, b, *, c=0):
        return a + b + c

    async def reverse(self, body):
        return body[::-1]

    async def area(self, box, side):
        return np.array([box["width"] * side, sum(np.shape(side))])

    async def count(self, upto, fail=False):
        for number in range(upto):
            yield {"number": number} if number % 2 else bytes([number])
        if fail:
            raise ValueError("no more")

    async def model(self):
        return serve.get_multiplexed_model_id()

    async def fail(self):
        raise KeyError("secret")

    async def sleep(self):
        self.running += 1
        try:
            await asyncio.sleep(60)
        finally:
            self.running -= 1

    async def wait_in_stream(self):
        self.running += 1
        try:
            yield 1
            await asyncio.sleep(60)
        finally:
            self.running -= 1


class Failing:
    """A service whose every call ends the same way."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        self._failure = Failure(kind, message, retry_after_s=2.5)

    async def unary(self, call):
        raise CallFailed(self._failure)


async def outside(mesh: GrpcMesh, work: Callable[[Connection], Any], **options: Any) -> Any:
    """Runs a program without an event loop, on a thread of its own."""

    def run() -> Any:
        with serve.connect(mesh.address, **options) as connection:
            return work(connection)

    return await asyncio.to_thread(run)


@on_io
async def test_calls_of_every_kind_work_without_an_event_loop():
    async with GrpcMesh({"math": Math}) as mesh:

        def work(connection: Connection) -> None:
            math = connection.application("math")
            assert math.remote("x").result() == {"got": "x"}
            assert math.remote().result() == {"got": None}
            assert math.add.remote(1, b=2, c=3).result(timeout_s=10) == 6
            assert math.reverse.remote(b"abc").result() == b"cba"
            assert math.area.remote(Box(3), np.int64(4)).result() == [12, 0]
            assert list(math.options(stream=True).count.remote(3)) == [b"\0", {"number": 1}, b"\2"]
            assert connection.applications() == ["math"]
            assert [connection.serving(name) for name in ("", "math", "no-such")] == [True, True, False]

        await outside(mesh, work)


@on_io
async def test_calls_work_on_an_event_loop_and_many_at_a_time():
    async with GrpcMesh({"math": Math}) as mesh:

        async def program(connection: Connection) -> None:
            math = connection.application()
            sums = await asyncio.gather(*(math.add.remote(number, 1) for number in range(100)))
            assert sums == list(range(1, 101))
            assert [item async for item in math.options(stream=True).count.remote(2)] == [b"\0", {"number": 1}]

        await outside(mesh, lambda connection: asyncio.run(program(connection)))


@on_io
async def test_options_travel_with_the_call():
    async with GrpcMesh({"math": Math}) as mesh:

        def work(connection: Connection) -> None:
            math = connection.application("math").options(multiplexed_model_id="m-1", request_id="r-1")
            response = math.model.remote()
            assert (response.result(), response.request_id) == ("m-1", "r-1")
            with pytest.raises(TypeError, match="no_such_option"):
                math.options(no_such_option=1)

        await outside(mesh, work)


@on_io
async def test_failures_have_the_classes_of_the_mesh():
    apps = {
        "math": Math,
        "full": Failing(FailureKind.BACKPRESSURE, "5 are waiting"),
        "gone": Failing(FailureKind.UNAVAILABLE, "it failed"),
    }
    async with GrpcMesh(apps) as mesh:

        def work(connection: Connection) -> None:
            math = connection.application("math")
            with pytest.raises(RemoteError, match="secret"):
                math.fail.remote().result()
            with pytest.raises(InvalidCallError, match="do not fit"):
                math.add.remote(1).result()
            with pytest.raises(InvalidCallError, match="no_such_method"):
                math.no_such_method.remote().result()
            with pytest.raises(BackPressureError, match="5 are waiting") as shed:
                connection.application("full").remote().result()
            assert shed.value.retry_after_s == 2.5
            with pytest.raises(DeploymentUnavailableError, match="it failed"):
                connection.application("gone").remote().result()
            with pytest.raises(IngressError, match="'no-such' not found") as unknown:
                connection.application("no-such").remote().result()
            assert (unknown.value.code, unknown.value.reason) == ("NOT_FOUND", "APPLICATION_NOT_FOUND")
            numbers = math.options(stream=True).count.remote(1, fail=True)
            assert next(numbers) == b"\0"
            with pytest.raises(RemoteError, match="no more"):
                next(numbers)
            with pytest.raises(TypeError, match="no form in JSON"):
                math.remote(object())

        await outside(mesh, work)


@on_io
async def test_deadlines_end_calls_and_waits_do_not():
    async with GrpcMesh({"math": Math}) as mesh:

        def work(connection: Connection) -> None:
            math = connection.application()
            with pytest.raises(CallTimeoutError):
                math.options(timeout_s=0.1).sleep.remote().result()
            response = math.sleep.remote()
            with pytest.raises(CallTimeoutError, match="the call goes on"):
                response.result(timeout_s=0.01)
            assert not response.done()
            response.cancel()
            with pytest.raises(RequestCancelledError):
                response.result()

        await outside(mesh, work)
        await until(lambda: mesh.user("math").running == 0 and mesh.ongoing("math") == 0)


@on_io
async def test_cancelling_reaches_user_code_from_a_response_a_stream_and_an_awaiting_task():
    async with GrpcMesh({"math": Math}) as mesh:

        async def program(connection: Connection) -> None:
            math = connection.application()
            stream = math.options(stream=True).wait_in_stream.remote()
            assert await anext(stream) == 1
            stream.cancel()
            with pytest.raises(RequestCancelledError):
                await anext(stream)
            response = math.sleep.remote()
            response.cancel()
            with pytest.raises(RequestCancelledError):
                await response
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await math.sleep.remote()

        await outside(mesh, lambda connection: asyncio.run(program(connection)))
        await until(lambda: mesh.user("math").running == 0 and mesh.ongoing("math") == 0)


@on_io
async def test_a_stream_waits_on_after_a_wait_that_was_cut_short_and_ends_when_nobody_holds_it():
    async with GrpcMesh({"math": Math}) as mesh:

        async def program(connection: Connection) -> None:
            stream = connection.application().options(stream=True).wait_in_stream.remote()
            assert await anext(stream) == 1
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(stream)
            assert mesh.user("math").running == 1
            del stream

        await outside(mesh, lambda connection: asyncio.run(program(connection)))
        await until(lambda: mesh.user("math").running == 0 and mesh.ongoing("math") == 0)


class Endless:
    """A stream that always has more; counts what was read of it."""

    def __init__(self, value: bytes) -> None:
        self.reads = 0
        self.cancelled = False
        self._response = CallServiceCallStreamResponse(raw=value)

    async def open(self) -> Endless:
        return self

    async def read(self) -> CallServiceCallStreamResponse:
        self.reads += 1
        return self._response

    def cancel(self) -> None:
        self.cancelled = True


@pytest.mark.parametrize(("value", "ahead"), [(b"x", AHEAD_ITEMS), (bytes(AHEAD_BYTES // 8), 8)])
async def test_a_stream_is_read_ahead_within_a_bound(value: bytes, ahead: int):
    call = Endless(value)
    stream = ResponseStream(call.open, io_thread(), "r-1")
    await until(lambda: call.reads == ahead)
    for taken in range(1, 8 * ahead + 1):
        assert await anext(stream) == value
        assert call.reads <= taken + ahead
    await until(lambda: call.reads > 8 * ahead + ahead // 2)
    stream.cancel()
    with pytest.raises(RequestCancelledError):
        await anext(stream)
    await until(lambda: call.cancelled)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def token_file(folder: str, *tokens: str) -> Path:
    file = Path(folder, "tokens")
    file.write_text("".join(f"{token}\n" for token in tokens))
    return file


@on_io
async def test_an_ingress_with_tokens_lets_in_who_shows_one_and_tokens_are_exchanged_without_a_restart():
    with TemporaryDirectory() as folder:
        file = token_file(folder, "old")
        os.utime(file, (1, 1))
        async with GrpcMesh({"math": Math}, auth_token_file=str(file)) as mesh:

            def add(connection: Connection) -> int:
                return connection.application().add.remote(1, 2).result()

            assert await outside(mesh, add, token="old") == 3
            for wrong in ("", "new", "old\n"[:2]):
                with pytest.raises(IngressError) as refused:
                    await outside(mesh, add, token=wrong)
                assert (refused.value.code, refused.value.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
            assert await outside(mesh, lambda connection: connection.serving("math"))
            token_file(folder, "old", "new")
            assert [await outside(mesh, add, token=token) for token in ("old", "new")] == [3, 3]
            os.unlink(file)
            assert await outside(mesh, add, token="new") == 3


@on_io
async def test_a_file_without_tokens_keeps_the_ingress_from_starting():
    with TemporaryDirectory() as folder:
        empty = token_file(folder, "")
        for file, error in ((empty, ValueError), (Path(folder, "none"), OSError)):
            mesh = GrpcMesh({}, auth_token_file=str(file))
            with pytest.raises(error, match=str(file)):
                await mesh.ingress.start()


@on_io
async def test_nobody_there_and_a_closed_connection_are_told_apart():
    async with GrpcMesh({"math": Math}) as mesh:
        address = mesh.address

        def closed(connection: Connection) -> None:
            connection.close()
            with pytest.raises(ValueError, match="is closed"):
                connection.application().remote().result()

        await outside(mesh, closed)

    def nobody() -> None:
        with serve.connect(address) as connection, pytest.raises(IngressError) as away:
            connection.application().options(timeout_s=5).remote().result()
        assert away.value.code == "UNAVAILABLE"

    await asyncio.to_thread(nobody)


def test_a_program_that_connects_imports_no_ray():
    program = (
        "import sys, meshserve; c = meshserve.connect('localhost:1'); c.application('x'); c.close(); "
        "print([name for name in sys.modules if name == 'ray' or name.startswith(('ray.', 'cloudpickle'))])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_published_service_config_is_one_that_grpc_takes():
    config = json.loads(service_config())
    policy = config["methodConfig"][0]["retryPolicy"]
    assert policy["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert policy["maxAttempts"] <= 5
    # A channel with a config that gRPC cannot parse fails every call with a message that says so.
    with grpc.insecure_channel("localhost:1", [("grpc.service_config", service_config())]) as channel:
        call = channel.unary_unary("/a/b", _registered_method=False)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=5)
    assert "service config" not in caught.value.details().lower()


def test_half_a_certificate_is_refused():
    with pytest.raises(ValueError, match="belong together"):
        Endpoint("localhost:1", cert_file="cert.pem")
