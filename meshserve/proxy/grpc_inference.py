"""The Open Inference Protocol at the ingress: applications that opted in are models; see inference.proto.

Of a request only the name of its model is read here. A stream of requests ends here, too: each request is a call of its
own, to whichever replica has room, and the answers leave in the order of the requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

import grpc
import grpc.aio

from meshserve.model.call import Call, CallKind, Encoding, Payload
from meshserve.proxy.applications import Applications
from meshserve.proxy.grpc_call import Context
from meshserve.proxy.grpc_forward import ForwardedMethod, Forwarding
from meshserve.proxy.metrics_grpc import all_counted
from meshserve.routing.service import CallFailed, ReplyStream, Service
from meshserve.rpc.inference import SERVICE, SERVICER_FUNCTION
from meshserve.rpc.one_request import reading_themselves
from meshserve.rpc.servicers import Handlers, find_method, record
from meshserve.rpc.status_details import Refused
from meshserve.v1 import inference_pb2, inference_pb2_grpc

READY_WITHIN_S = 1.0
"""A model that does not say within that time that it is ready is not."""

STREAM_WINDOW = 64
"""Requests of one stream that are in hand at a time; no more are read from the client meanwhile."""

_ModelNamed = inference_pb2.ModelMetadataRequest
"""Name and version stand in the same fields of all requests about a model; this one has no others."""


def inference_handlers(applications: Applications, shared: Forwarding) -> Handlers:
    """Handlers of the protocol's methods."""
    add = inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server
    # Those that it lacks go to a replica and are replaced below.
    declared = record(add, InferenceApi(applications, shared))  # type: ignore[abstract]
    handlers = reading_themselves(declared)
    for name in ("ModelMetadata", "ModelInfer"):
        method = find_method(SERVICER_FUNCTION, f"/{SERVICE}/{name}")
        handlers[method.full_name] = ModelMethod(method, shared).handler()
    stream = InferenceStream(shared)
    handlers[stream.rpc] = grpc.stream_stream_rpc_method_handler(stream.serve)
    return all_counted(handlers, declared)


class ModelMethod(ForwardedMethod):
    """A method that goes to the application its request names."""

    def _read(self, body: bytes, context: Context) -> tuple[Call, Service]:
        method = self._method
        return self._shared.reader.read(
            context,
            method.full_name,
            method.name,
            method.kind,
            Payload(body, Encoding.PROTOBUF),
            servicer_function=SERVICER_FUNCTION,
            application=_model_of(body),
        )


def _model_of(body: bytes) -> str:
    """The model that a request names; empty when it names none or cannot be read, which the replica tells better."""
    try:
        return _ModelNamed.FromString(body).name
    except Exception:  # noqa: BLE001 - whatever protobuf raises for bytes that are no message
        return ""


class InferenceApi(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """What the ingress answers itself.

    Args:
        applications: those there are.
        shared: see `Forwarding`.
    """

    def __init__(self, applications: Applications, shared: Forwarding) -> None:
        self._applications = applications
        self._shared = shared

    async def ServerLive(  # noqa: N802 - the RPC's name
        self, request: inference_pb2.ServerLiveRequest, context: Context
    ) -> inference_pb2.ServerLiveResponse:
        """See inference.proto."""
        return inference_pb2.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802 - the RPC's name
        self, request: inference_pb2.ServerReadyRequest, context: Context
    ) -> inference_pb2.ServerReadyResponse:
        """See inference.proto."""
        return inference_pb2.ServerReadyResponse(ready=not self._applications.unready())

    async def ServerMetadata(  # noqa: N802 - the RPC's name
        self, request: inference_pb2.ServerMetadataRequest, context: Context
    ) -> inference_pb2.ServerMetadataResponse:
        """See inference.proto."""
        return inference_pb2.ServerMetadataResponse(name="meshserve", version=version("meshserve"))

    async def ModelReady(  # noqa: N802 - the RPC's name
        self, request: inference_pb2.ModelReadyRequest, context: Context
    ) -> inference_pb2.ModelReadyResponse:
        """See inference.proto. Asks the model: an application that did not opt in is none."""
        payload = Payload(request.SerializeToString(), Encoding.PROTOBUF)
        try:
            call, service = self._shared.reader.read(
                context,
                f"/{SERVICE}/ModelReady",
                "ModelReady",
                CallKind.UNARY,
                payload,
                servicer_function=SERVICER_FUNCTION,
                application=request.name,
            )
            async with asyncio.timeout(READY_WITHIN_S):
                answer = await service.unary(call)
        except (Refused, CallFailed, TimeoutError):
            return inference_pb2.ModelReadyResponse(ready=False)
        return inference_pb2.ModelReadyResponse.FromString(answer.body)


@dataclass(slots=True)
class _Asked:
    """One request of a stream.

    Attributes:
        body: of the request.
        stream: its responses.
    """

    body: bytes
    stream: ReplyStream


class InferenceStream:
    """Streams of requests.

    Args:
        shared: see `Forwarding`.
    """

    rpc = f"/{SERVICE}/ModelStreamInfer"

    def __init__(self, shared: Forwarding) -> None:
        self._shared = shared

    async def serve(self, _requests: object, context: Context) -> None:
        """One stream of one client."""
        window: asyncio.Queue[_Asked | bytes | None] = asyncio.Queue(STREAM_WINDOW)
        async with self._asking(context, window) as opened:
            while (asked := await window.get()) is not None:
                if isinstance(asked, bytes):
                    await context.write(asked)
                else:
                    await self._answer(asked, context)
                    opened.discard(asked.stream)

    @asynccontextmanager
    async def _asking(
        self, context: Context, window: asyncio.Queue[_Asked | bytes | None]
    ) -> AsyncIterator[set[ReplyStream]]:
        """Reads requests and starts their calls, meanwhile."""
        opened: set[ReplyStream] = set()
        reading = asyncio.create_task(self._ask(context, window, opened))
        try:
            with self._shared.in_flight:
                yield opened
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            for stream in opened:
                stream.cancel()

    async def _ask(
        self, context: Context, window: asyncio.Queue[_Asked | bytes | None], opened: set[ReplyStream]
    ) -> None:
        try:
            while (body := await context.read()) is not grpc.aio.EOF:
                await window.put(self._asked(body, context, opened))
        except Exception:  # noqa: BLE001 - the client's stream broke, in whatever way: there is nothing more to read
            pass
        await window.put(None)

    def _asked(self, body: bytes, context: Context, opened: set[ReplyStream]) -> _Asked | bytes:
        """A request's call, started; or the response that says why there is none."""
        try:
            call, service = self._shared.reader.read(
                context,
                self.rpc,
                "ModelStreamInfer",
                CallKind.SERVER_STREAM,
                Payload(body, Encoding.PROTOBUF),
                servicer_function=SERVICER_FUNCTION,
                application=_model_of(body),
            )
        except Refused as refused:
            return _error(refused.status.message, body)
        stream = service.stream(call)
        opened.add(stream)
        return _Asked(body, stream)

    async def _answer(self, asked: _Asked, context: Context) -> None:
        """Sends the responses to one request."""
        try:
            while items := await asked.stream.take():
                for item in items:
                    await context.write(item.body)
        except CallFailed as failed:
            await context.write(_error(failed.failure.message, asked.body))


def _error(message: str, body: bytes) -> bytes:
    """What a stream tells of a request that went wrong; `body` brings its id."""
    response = inference_pb2.ModelStreamInferResponse(error_message=message)
    try:
        response.infer_response.id = inference_pb2.ModelInferRequest.FromString(body).id
    except Exception:  # noqa: BLE001 - whatever protobuf raises for bytes that are no message, which have no id
        pass
    encoded: bytes = response.SerializeToString()
    return encoded
