"""User code of the gRPC tests: handlers of every form."""

from __future__ import annotations

import asyncio
import threading

import grpc
from rpcs.v1.shapes_pb2 import Note, Number

import meshserve.grpc_util as grpc_util


class Shapes:
    """Asynchronous handlers."""

    async def Unary(self, request):
        if isinstance(request, Number):
            return Number(value=request.value * 2)
        return Note(text=request.text.upper(), number=request.number)

    async def Down(self, request):
        for number in range(request.number):
            yield Note(number=number)

    async def Up(self, requests):
        return Note(number=sum([request.number async for request in requests]))

    async def Both(self, requests):
        async for request in requests:
            yield Note(number=request.number * 2)


class SyncShapes:
    """Synchronous handlers; they run on worker threads."""

    def Unary(self, request):
        return Note(text=threading.current_thread().name)

    def Down(self, request):
        for number in range(request.number):
            yield Note(number=number, text=threading.current_thread().name)

    def Up(self, requests):
        return Note(number=sum(request.number for request in requests))

    def Both(self, requests):
        for request in requests:
            yield Note(number=request.number * 2)


class TwoServices:
    """Tells two services with a method of the same name apart."""

    async def Unary(self, request):
        return Note(text="of ShapesService")

    async def OtherService_Unary(self, request):
        return Number(value=-request.value)


async def whatever(request):
    """A function deployment: handles every method, as far as its result fits."""
    return request


def add_callable_service(servicer, server):
    """A service whose method is called `__call__`, as generated code adds it."""
    handler = grpc.unary_unary_rpc_method_handler(servicer.__call__, Note.FromString, Note.SerializeToString)
    server.add_registered_method_handlers("meshserve.tests.v1.CallableService", {"__call__": handler})


class Misfits:
    """Handlers whose form does not fit their method."""

    async def Unary(self, request):
        match request.text:
            case "none":
                return None
            case "dict":
                return {"text": "x"}
            case "other message":
                return Number(value=1)
            case _:
                return (note for note in [Note()])

    async def Down(self, request):
        return Note()

    async def Up(self, requests):
        yield Note()


class Speaking:
    """Sets what a handler may set."""

    async def Unary(self, request, grpc_context: grpc_util.MeshServegRPCContext):
        grpc_context.set_trailing_metadata([("colour", "red"), ("raw-bin", b"\0\1"), ("request_id", "mine")])
        match request.text:
            case "raise":
                grpc_context.set_code(grpc.StatusCode.PERMISSION_DENIED)
                grpc_context.set_details("not you")
                raise ValueError("never shown")
            case "raise without details":
                grpc_context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
                raise ValueError("shown")
            case "return":
                grpc_context.set_code(grpc.StatusCode.NOT_FOUND)
                grpc_context.set_details("no such note")
                return None
            case "return ok":
                grpc_context.set_code(grpc.StatusCode.OK)
                grpc_context.set_details("fine")
            case "bad trailers":
                grpc_context.set_trailing_metadata([("Colour", "red")])
            case "head":
                grpc_context.send_initial_metadata([("early", "bird")])
                grpc_context.set_compression(grpc.Compression.Gzip)
                return Note(text="x" * 10_000)
        return Note(text="ok")

    async def Down(self, request, grpc_context):
        grpc_context.send_initial_metadata([("early", "bird")])
        for number in range(request.number):
            yield Note(number=number)
        grpc_context.set_trailing_metadata([("after", "the-last")])
        if request.text == "code":
            grpc_context.set_code(grpc.StatusCode.DATA_LOSS)
            grpc_context.set_details("some are missing")
        if request.text == "raise":
            grpc_context.set_code(grpc.StatusCode.ABORTED)
            raise ValueError("late")

    def Both(self, requests, grpc_context):
        grpc_context.send_initial_metadata([("early", "bird")])
        yield from requests
        grpc_context.set_trailing_metadata([("after", "the-last")])


class Told:
    """Says what it was told of its call."""

    async def Unary(self, request, grpc_context):
        known = {
            "request_id": grpc_context.request_id(),
            "application": grpc_context.application(),
            "model": grpc_context.multiplexed_model_id(),
            "traceparent": grpc_context.traceparent(),
            "tracestate": grpc_context.tracestate(),
            "method": grpc_context.method(),
            "peer": grpc_context.peer().partition(":")[0],
            "remaining": str(grpc_context.time_remaining()),
            "identities": str(grpc_context.peer_identities()),
            "identity_key": str(grpc_context.peer_identity_key()),
            "auth": str(sorted(grpc_context.auth_context())),
            **{f"md {key}": str(value) for key, value in grpc_context.invocation_metadata()},
        }
        return Note(text="\n".join(f"{key}={value}" for key, value in known.items()))


class Waiting:
    """Handlers that wait, and remember how their wait ended."""

    def __init__(self) -> None:
        self.started = 0
        self.ends: list[str] = []
        self.taken = 0
        self.sent = 0

    async def _wait(self):
        self.started += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise

    async def Unary(self, request):
        await self._wait()

    async def Down(self, request):
        if request.text == "fast":
            for _ in range(request.number):
                self.sent += 1
                yield Note(text="x" * 4096)
            return
        yield Note(text="first")
        await self._wait()

    async def Up(self, requests):
        if requests is not None:
            async for _ in requests:
                self.taken += 1
                await self._wait()
        return Note()

    def Both(self, requests):
        self.started += 1
        yield from requests
        self.ends.append("input ended")


class Generic:
    """Methods for calls without protos."""

    def __init__(self) -> None:
        self.secret = 0

    async def __call__(self, value=None):
        return value if isinstance(value, Note) else {"got": value}

    def add(self, a, b, *, c=0):
        return a + b + c

    async def reverse(self, body):
        return body[::-1]

    async def count(self, upto):
        for number in range(upto):
            yield {"number": number} if number % 2 else bytes([number])

    async def unspeakable(self):
        return object()

    def check_health(self):
        self.secret += 1

    def _private(self):
        self.secret += 1
